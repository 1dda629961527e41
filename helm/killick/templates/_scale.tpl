{{/* Partitions, which bound replicas. */}}

{{/* The topics that a stage reads, as brokers call them: {topics: […]}. Of (root, stage). */}}
{{- define "killick.topics" -}}
{{- $root := index . 0 -}}
{{- $prefix := include "killick.prefix" $root -}}
{{- $reads := dict "dedup" (list "accepted") "batch" (list "unique") "anchor" (list "checkpoints") "prove" (list "batches" "anchors") -}}
{{- $topics := list -}}
{{- if eq "ingest" (index . 1) -}}
{{- range $root.Values.config.source -}}
{{- $topics = append $topics (.topic | default "events") -}}
{{- end -}}
{{- else -}}
{{- range get $reads (index . 1) -}}
{{- $topics = append $topics (printf "%s%s" $prefix .) -}}
{{- end -}}
{{- end -}}
{{- dict "topics" $topics | toYaml -}}
{{- end -}}

{{- define "killick.prefix" -}}
{{- .Values.config.kafka.prefix | default (hasKey .Values.config.kafka "prefix" | ternary "" "killick.") -}}
{{- end -}}

{{/* How many partitions the topics of a stage have, which is how many of its processes can be at work. Of (root, stage). */}}
{{- define "killick.partitions" -}}
{{- $values := (index . 0).Values -}}
{{- $logs := int $values.config.deployment.logs -}}
{{- $stage := index . 1 -}}
{{- if eq $stage "ingest" -}}
{{- $sum := 0 -}}
{{- range (include "killick.topics" . | fromYaml).topics -}}
{{- $sum = add $sum (get $values.inputPartitions . | default (eq . "events" | ternary $logs 1)) -}}
{{- end -}}
{{- $sum -}}
{{- else if eq $stage "anchor" -}}
{{- len $values.config.deployment.chains -}}
{{- else if eq $stage "reanchor" -}}
1
{{- else -}}
{{- $logs -}}
{{- end -}}
{{- end -}}
