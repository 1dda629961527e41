{{/* What pods of stages and of setup have in common. */}}

{{/* Of (root, component): metadata of a pod. */}}
{{- define "killick.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $own := include "killick.own" . | fromYaml -}}
labels:
  {{- /* None that changes with the chart's version: only what concerns a pod is to start it anew. */}}
  {{- include "killick.selectorOf" . | nindent 2 }}
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ include "killick.files" $root | sha256sum }}
  {{- with mergeOverwrite (deepCopy $root.Values.podAnnotations) $own.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Of (root, component): the specification of a pod, but for containers and volumes. */}}
{{- define "killick.podSpec" -}}
{{- $root := index . 0 -}}
{{- $own := include "killick.own" . | fromYaml -}}
serviceAccountName: {{ include "killick.serviceAccount" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $root.Values.terminationGracePeriodSeconds }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" }}
{{- with get $own $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Of (root, component, what of the environment is its own): a container, but for command, ports and probes. */}}
{{- define "killick.container" -}}
{{- $root := index . 0 -}}
{{- $own := include "killick.own" . | fromYaml -}}
image: {{ include "killick.image" . }}
imagePullPolicy: {{ (mergeOverwrite (deepCopy $root.Values.image) $own.image).pullPolicy }}
securityContext:
  {{- toYaml $root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml $own.resources | nindent 2 }}
{{- /* A map, so that no name is there twice, which Kubernetes refuses. Sorted, so K comes before the O that refers to it. */ -}}
{{- $env := dict "KILLICK_LOG" $root.Values.log.level "KILLICK_LOG_FORMAT" $root.Values.log.format -}}
{{- with $root.Values.otlp.endpoint -}}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" . -}}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_PROTOCOL" $root.Values.otlp.protocol -}}
{{- $_ := set $env "OTEL_SERVICE_NAME" (printf "killick-%s" (index $ 1)) -}}
{{- end -}}
{{- $env = mergeOverwrite $env (index . 2) (deepCopy $root.Values.extraEnv) $own.extraEnv }}
env:
  {{- range $name := keys $env | sortAlpha }}
  - name: {{ $name }}
    {{- $value := get $env $name }}
    {{- if kindIs "map" $value }}
    {{- toYaml $value | nindent 4 }}
    {{- else }}
    value: {{ kindIs "string" $value | ternary $value (include "killick.toml.value" $value) | quote }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Of (root, sources, name of the volume): where the sources are, if there are any. */}}
{{- define "killick.mounts" -}}
{{- $root := index . 0 -}}
- {name: config, mountPath: /etc/killick, readOnly: true}
{{- if trim (index . 1) }}
- {name: {{ index . 2 }}, mountPath: {{ include "killick.secretsPath" $root }}, readOnly: true}
{{- end }}
{{- with $root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of (root, sources by name of the volume). */}}
{{- define "killick.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  configMap: {name: {{ include "killick.fullname" $root }}}
{{- range $name, $sources := index . 1 }}
{{- with trim $sources }}
- name: {{ $name }}
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
