{{/* Names and labels. */}}

{{- define "killick.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 43 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $name = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- /* "-reanchor" and what the controller adds have to fit into the 63 of a label. */ -}}
{{- $name | trunc 43 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "killick.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "killick.fullname" .) "default") -}}
{{- end -}}

{{- define "killick.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of (root, component). */}}
{{- define "killick.selectorOf" -}}
{{- include "killick.selector" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "killick.labels" -}}
{{ include "killick.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: killick
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of (root, component). */}}
{{- define "killick.labelsOf" -}}
{{- include "killick.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Of (root, component): its image, of its own values above those of all. */}}
{{- define "killick.image" -}}
{{- $root := index . 0 -}}
{{- $image := mergeOverwrite (deepCopy $root.Values.image) (include "killick.own" . | fromYaml).image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Of (root, component): its own values. */}}
{{- define "killick.own" -}}
{{- $values := (index . 0).Values -}}
{{- if eq (index . 1) "audit" -}}
{{- include "killick.audit" (index . 0) -}}
{{- else -}}
{{- eq (index . 1) "setup" | ternary $values.setup (get $values.stages (index . 1)) | toYaml -}}
{{- end -}}
{{- end -}}

{{- define "killick.auditName" -}}
{{- include "killick.fullname" . }}-audit
{{- end -}}

{{/* The values of the audit. Where Strimzi makes the users, it comes as its own, whose Secret is named like it. */}}
{{- define "killick.audit" -}}
{{- $own := dict -}}
{{- $name := include "killick.auditName" . -}}
{{- $proof := eq .Values.strimzi.user.authentication "tls" | ternary "certificate" "password" -}}
{{- if and .Values.strimzi.user.enabled (get .Values.secrets.kafka $proof).existingSecret -}}
{{- $_ := set $own "secrets" (dict "kafka" (dict $proof (dict "existingSecret" $name))) -}}
{{- if eq $proof "password" -}}
{{- $_ := set $own "extraEnv" (dict "KILLICK_KAFKA__SECURITY__USERNAME" $name) -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite $own (deepCopy .Values.audit) | toYaml -}}
{{- end -}}

{{/* What serves the admin port: {components: […]}. */}}
{{- define "killick.scraped" -}}
{{- $names := (include "killick.stages" . | fromYaml).stages -}}
{{- dict "components" (.Values.audit.enabled | ternary (append $names "audit") $names) | toYaml -}}
{{- end -}}

{{/* The stages that run, in their order: {stages: […]}. */}}
{{- define "killick.stages" -}}
{{- $names := list -}}
{{- range $name := list "ingest" "dedup" "batch" "anchor" "prove" "reanchor" -}}
{{- $stage := get $.Values.stages $name -}}
{{- $scales := ne "none" (dig "autoscaling" "kind" "none" $stage) -}}
{{- $wanted := or (ne $name "reanchor") $.Values.config.reanchor -}}
{{- if and $wanted (or $scales (gt (int $stage.replicas) 0)) -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- end -}}
{{- dict "stages" $names | toYaml -}}
{{- end -}}
