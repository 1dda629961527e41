{{/* The configuration of the program, and where its secrets are. */}}

{{- define "killick.secretsPath" -}}/var/run/secrets/killick{{- end -}}

{{/* The sections of the file: what the user has set, and the chart's part. */}}
{{- define "killick.config" -}}
{{- include "killick.check" . -}}
{{- $config := deepCopy .Values.config -}}
{{- $path := include "killick.secretsPath" . -}}
{{- $_ := set $config "admin" (dict "listen" (printf "0.0.0.0:%d" (int .Values.admin.port))) -}}
{{- $_ := set $config "keys" (dict "folder" (printf "%s/keys" $path)) -}}
{{- range $name := list "kafka" "catalog" -}}
{{- $section := get $config $name | default dict -}}
{{- $security := get $section "security" | default dict -}}
{{- $secrets := get $.Values.secrets $name -}}
{{- if $secrets.ca.existingSecret -}}
{{- $_ := set $security "ca_file" (printf "%s/%s/ca.pem" $path $name) -}}
{{- end -}}
{{- if $secrets.certificate.existingSecret -}}
{{- $_ := set $security "certificate_file" (printf "%s/%s/certificate.pem" $path $name) -}}
{{- $_ := set $security "key_file" (printf "%s/%s/key.pem" $path $name) -}}
{{- end -}}
{{- if $secrets.password.existingSecret -}}
{{- $_ := set $security "password_file" (printf "%s/%s/password" $path $name) -}}
{{- end -}}
{{- if $security -}}
{{- $_ := set $section "security" $security -}}
{{- end -}}
{{- $_ := set $config $name $section -}}
{{- end -}}
{{- if .Values.secrets.chainweb.ca.existingSecret -}}
{{- $_ := set $config.chainweb "ca_file" (printf "%s/chainweb/ca.pem" $path) -}}
{{- end -}}
{{- with .Values.secrets.registry -}}
{{- if .ca.existingSecret -}}
{{- $_ := set $config.registry "ca_file" (printf "%s/registry/ca.pem" $path) -}}
{{- end -}}
{{- if .password.existingSecret -}}
{{- $_ := set $config.registry "password_file" (printf "%s/registry/password" $path) -}}
{{- end -}}
{{- end -}}
{{- range $name, $series := .Values.secrets.reanchor -}}
{{- if $series.key -}}
{{- $_ := set (get $config.reanchor $name) "key_file" (printf "%s/reanchor/%s.key" $path $name) -}}
{{- end -}}
{{- if $series.ca -}}
{{- $_ := set (get $config.reanchor $name).chainweb "ca_file" (printf "%s/reanchor/%s.pem" $path $name) -}}
{{- end -}}
{{- end -}}
{{- /* Who has nothing to set does not name the server. */ -}}
{{- range $name := list "catalog" "chainweb" -}}
{{- if not (get $config $name).nodes -}}
{{- $_ := unset $config $name -}}
{{- end -}}
{{- end -}}
{{- $config | toYaml -}}
{{- end -}}

{{/* The files of the ConfigMap. Only ingest reads the tenants' secrets, so only its file names them. */}}
{{- define "killick.files" -}}
{{- $config := include "killick.config" . | fromYaml -}}
{{- $common := include "killick.toml.table" (list (list) $config) | trim -}}
{{- $tenants := dict -}}
{{- range $name := keys .Values.secrets.tenants -}}
{{- $_ := set $tenants $name (dict "secret_file" (printf "%s/tenants/%s" (include "killick.secretsPath" $) $name)) -}}
{{- end -}}
{{- $of_tenants := empty $tenants | ternary "" (include "killick.toml.table" (list (list) (dict "tenant" $tenants))) -}}
{{- $files := dict "killick.toml" (printf "%s\n" $common) -}}
{{- $_ := set $files "ingest.toml" (printf "%s%s\n" $common $of_tenants) -}}
{{- $_ := mergeOverwrite $files (deepCopy .Values.files) -}}
{{- $files | toYaml -}}
{{- end -}}

{{/* Of (secret, key of values, file): a source of a projected volume; nothing where no Secret is named. */}}
{{- define "killick.source" -}}
{{- $secret := index . 0 -}}
{{- if $secret.existingSecret }}
- secret:
    name: {{ $secret.existingSecret }}
    items: [{key: {{ get $secret (index . 1) | quote }}, path: {{ index . 2 | quote }}}]
{{- end }}
{{- end -}}

{{/* Of (root, component): the secrets that it needs, and no other, as sources of a projected volume. `topics` and `catalog` are
     the two halves of setup. */}}
{{- define "killick.sources" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $own := include "killick.own" (list $root (has $component (list "topics" "catalog") | ternary "setup" $component)) | fromYaml -}}
{{- $secrets := mergeOverwrite (deepCopy $root.Values.secrets) $own.secrets -}}
{{- $needs := get (dict
      "ingest" (list "kafka" "registry" "tenants")
      "dedup" (list "kafka")
      "batch" (list "kafka" "logs")
      "anchor" (list "kafka" "anchor")
      "prove" (list "kafka" "catalog" "public")
      "reanchor" (list "kafka" "catalog" "public" "anchor" "series")
      "audit" (list "kafka")
      "topics" (list "kafka" "registry")
      "catalog" (list "catalog")) $component -}}
{{- /* Whoever reads the configuration reads these. They are no secret. */ -}}
{{- include "killick.source" (list $secrets.chainweb.ca "key" "chainweb/ca.pem") -}}
{{- range $name := keys $secrets.reanchor | sortAlpha -}}
{{- with (get $secrets.reanchor $name).ca -}}
{{- include "killick.source" (list . "key" (printf "reanchor/%s.pem" $name)) -}}
{{- end -}}
{{- end -}}
{{- range $server := list "kafka" "catalog" "registry" -}}
{{- if has $server $needs -}}
{{- $of := get $secrets $server -}}
{{- include "killick.source" (list $of.ca "key" (printf "%s/ca.pem" $server)) -}}
{{- include "killick.source" (list $of.password "key" (printf "%s/password" $server)) -}}
{{- with $of.certificate -}}
{{- include "killick.source" (list . "certificate" (printf "%s/certificate.pem" $server)) -}}
{{- include "killick.source" (list . "key" (printf "%s/key.pem" $server)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if has "tenants" $needs -}}
{{- range $name := keys $secrets.tenants | sortAlpha -}}
{{- include "killick.source" (list (get $secrets.tenants $name) "key" (printf "tenants/%s" $name)) -}}
{{- end -}}
{{- end -}}
{{- if has "series" $needs -}}
{{- range $name := keys $secrets.reanchor | sortAlpha -}}
{{- with (get $secrets.reanchor $name).key -}}
{{- include "killick.source" (list . "key" (printf "reanchor/%s.key" $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $logs := int $root.Values.config.deployment.logs -}}
{{- if has "logs" $needs }}
- secret:
    name: {{ $secrets.keys.logs.existingSecret }}
    items:
      {{- range $log := until $logs }}
      - {key: log-{{ $log }}.key, path: keys/log-{{ $log }}.key}
      {{- end }}
{{- end -}}
{{- if has "public" $needs }}
- secret:
    name: {{ $secrets.keys.public.existingSecret | default $secrets.keys.logs.existingSecret }}
    items:
      {{- range $log := until $logs }}
      - {key: log-{{ $log }}.pub, path: keys/log-{{ $log }}.pub}
      {{- end }}
      {{- range $secrets.keys.public.earlier }}
      - {key: {{ . | quote }}, path: {{ printf "keys/%s" . | quote }}}
      {{- end }}
{{- end -}}
{{- if has "anchor" $needs }}
- secret:
    name: {{ $secrets.keys.anchor.existingSecret }}
    items:
      - {key: anchor.key, path: keys/anchor.key}
      {{- range $number := untilStep 1 (int $secrets.keys.anchor.count) 1 }}
      - {key: anchor-{{ $number }}.key, path: keys/anchor-{{ $number }}.key}
      {{- end }}
{{- end -}}
{{- end -}}

{{/* A length of time as the program writes it: milliseconds. */}}
{{- define "killick.millis" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $number := regexFind "^[0-9]+" . -}}
{{- mul (int64 $number) (get $units (trimPrefix $number .)) -}}
{{- end -}}
