{{/* Refuses values that cannot work together, each with the key that has to change. What a value may be by itself says
     values.schema.json, and of the configuration the rest says `killick config check`. */}}
{{- define "killick.check" -}}
{{- $values := .Values -}}
{{- $stages := (include "killick.stages" . | fromYaml).stages -}}
{{- $config := $values.config -}}

{{- if not $config.kafka.brokers -}}
{{- fail "config.kafka.brokers: where are the brokers? host:port each" -}}
{{- end -}}
{{- if and (not $config.catalog.nodes) (or $values.setup.catalog (has "prove" $stages) (has "reanchor" $stages)) -}}
{{- fail "config.catalog.nodes: where are the nodes of the catalog? host:port each" -}}
{{- end -}}
{{- if and (not $config.chainweb.nodes) (or (has "anchor" $stages) (has "prove" $stages)) -}}
{{- fail "config.chainweb.nodes: which nodes of the chain are asked? http:// or https:// each" -}}
{{- end -}}
{{- if and (not $config.source) (has "ingest" $stages) -}}
{{- fail "config.source: which topics does ingest read? At least one, or stages.ingest.replicas = 0" -}}
{{- end -}}

{{- range $name := $stages -}}
{{- $stage := get $values.stages $name -}}
{{- $partitions := include "killick.partitions" (list $ $name) | int -}}
{{- $of := eq $name "ingest" | ternary "the input topics have (inputPartitions)" "its topics have" -}}
{{- $kind := dig "autoscaling" "kind" "none" $stage -}}
{{- if has $name (list "anchor" "reanchor") -}}
{{- if gt (int $stage.replicas) (int (add1 $partitions)) -}}
{{- fail (printf "stages.%s.replicas: %d are more than %d, one for each partition and one that stands by" $name (int $stage.replicas) (add1 $partitions)) -}}
{{- end -}}
{{- else if eq $kind "none" -}}
{{- if gt (int $stage.replicas) $partitions -}}
{{- fail (printf "stages.%s.replicas: %d are more than the %d partitions that %s" $name (int $stage.replicas) $partitions $of) -}}
{{- end -}}
{{- else -}}
{{- if gt (int $stage.autoscaling.min) (int $stage.autoscaling.max) -}}
{{- fail (printf "stages.%s.autoscaling.min: %d is more than stages.%s.autoscaling.max, %d" $name (int $stage.autoscaling.min) $name (int $stage.autoscaling.max)) -}}
{{- end -}}
{{- if gt (int $stage.autoscaling.max) $partitions -}}
{{- fail (printf "stages.%s.autoscaling.max: %d are more than the %d partitions that %s" $name (int $stage.autoscaling.max) $partitions $of) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $name := list "kafka" "catalog" -}}
{{- $secrets := get $values.secrets $name -}}
{{- $security := get (get $config $name) "security" | default dict -}}
{{- range $part := list "ca" "certificate" -}}
{{- if and (get $secrets $part).existingSecret (not $security.tls) -}}
{{- fail (printf "secrets.%s.%s.existingSecret: it needs config.%s.security.tls = true" $name $part $name) -}}
{{- end -}}
{{- end -}}
{{- if and $secrets.password.existingSecret (not $security.username) -}}
{{- fail (printf "secrets.%s.password.existingSecret: it needs config.%s.security.username" $name $name) -}}
{{- end -}}
{{- if and $security.username (not $secrets.password.existingSecret) -}}
{{- fail (printf "config.%s.security.username: it needs secrets.%s.password.existingSecret" $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and ($config.catalog.security | default dict).tls (not $values.secrets.catalog.ca.existingSecret) -}}
{{- fail "config.catalog.security.tls: it needs secrets.catalog.ca.existingSecret" -}}
{{- end -}}
{{- if and (not $config.registry) (or $values.secrets.registry.ca.existingSecret $values.secrets.registry.password.existingSecret) -}}
{{- fail "secrets.registry: there is no config.registry" -}}
{{- end -}}

{{- $keys := $values.secrets.keys -}}
{{- if and (has "batch" $stages) (not $keys.logs.existingSecret) -}}
{{- fail "secrets.keys.logs.existingSecret: batch signs with the keys of the logs; `killick keys init` makes them" -}}
{{- end -}}
{{- if and (or (has "prove" $stages) (has "reanchor" $stages)) (not (or $keys.logs.existingSecret $keys.public.existingSecret)) -}}
{{- fail "secrets.keys.public.existingSecret: prove and reanchor need the public keys of the logs; `killick keys init` makes them" -}}
{{- end -}}
{{- if and (or (has "anchor" $stages) (has "reanchor" $stages)) (not $keys.anchor.existingSecret) -}}
{{- fail "secrets.keys.anchor.existingSecret: anchor signs with it; `killick keys init` makes it" -}}
{{- end -}}

{{- range $source := $config.source -}}
{{- if and (eq "accept" ($source.unsigned | default "reject")) $source.tenant (not (hasKey $values.secrets.tenants $source.tenant)) -}}
{{- fail (printf "secrets.tenants.%s: the source %s accepts unsigned events of this tenant, and without its secret all of them are rejected" $source.tenant ($source.topic | default "events")) -}}
{{- end -}}
{{- end -}}
{{- range $name, $series := $values.secrets.reanchor -}}
{{- if not (hasKey ($config.reanchor | default dict) $name) -}}
{{- fail (printf "secrets.reanchor.%s: there is no config.reanchor.%s" $name $name) -}}
{{- end -}}
{{- if and $series.ca (not (get $config.reanchor $name).chainweb) -}}
{{- fail (printf "secrets.reanchor.%s.ca: there is no config.reanchor.%s.chainweb" $name $name) -}}
{{- end -}}
{{- end -}}

{{- if has "killick.toml" (keys $values.files) | or (has "ingest.toml" (keys $values.files)) -}}
{{- fail "files: killick.toml and ingest.toml are written by the chart" -}}
{{- end -}}
{{- $every := include "killick.millis" $values.audit.every | int64 -}}
{{- if lt $every 10000 -}}
{{- fail (printf "audit.every: %s is less than 10s" $values.audit.every) -}}
{{- end -}}
{{- if lt (include "killick.millis" $values.audit.since | int64) $every -}}
{{- fail (printf "audit.since: %s is less than audit.every, %s: nobody would look at what is between" $values.audit.since $values.audit.every) -}}
{{- end -}}
{{- $environments := list $values.extraEnv $values.setup.extraEnv $values.audit.extraEnv -}}
{{- range $name, $stage := $values.stages -}}
{{- $environments = append $environments $stage.extraEnv -}}
{{- end -}}
{{- range $environment := $environments -}}
{{- range $name := list "KILLICK_KAFKA__SLOT" "KILLICK_ADMIN__LISTEN" "KILLICK_CONFIG" "KILLICK_STAGES" "KILLICK_EMBEDDED" "KILLICK_OBJECTIVE" -}}
{{- if hasKey $environment $name -}}
{{- fail (printf "extraEnv.%s: the chart sets it" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and (or $values.strimzi.topics.enabled $values.strimzi.user.enabled) (not $values.strimzi.cluster) -}}
{{- fail "strimzi.cluster: which Kafka cluster is it?" -}}
{{- end -}}
{{- end -}}
