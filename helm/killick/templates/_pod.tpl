{{/* What pods of stages, of setup and of the audit have in common. */}}

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

{{/* Of (root, variable): who the pod is in what is pushed, where anything is; its name stands in the variable. */}}
{{- define "killick.podEnv" -}}
{{- $variable := index . 1 -}}
{{- $env := dict -}}
{{- if (index . 0).Values.otlp.endpoint -}}
{{- $_ := set $env $variable (dict "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.name"))) -}}
{{- $_ := set $env "KILLICK_POD_NAMESPACE" (dict "valueFrom" (dict "fieldRef" (dict "fieldPath" "metadata.namespace"))) -}}
{{- $attributes := printf "k8s.namespace.name=$(KILLICK_POD_NAMESPACE),k8s.pod.name=$(%s),service.instance.id=$(%s)" $variable $variable -}}
{{- $_ := set $env "OTEL_RESOURCE_ATTRIBUTES" $attributes -}}
{{- end -}}
{{- $env | toYaml -}}
{{- end -}}

{{/* Of root: the admin port of a container, and the probes that ask there. */}}
{{- define "killick.probes" -}}
ports:
  - {name: admin, containerPort: {{ .Values.admin.port }}}
startupProbe:
  httpGet: {path: /startupz, port: admin}
  {{- toYaml .Values.probes.startup | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  {{- toYaml .Values.probes.readiness | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: admin}
  {{- toYaml .Values.probes.liveness | nindent 2 }}
{{- end -}}

{{/* Of (root, component, name): the Service that gives pods their names, and monitors their targets. */}}
{{- define "killick.service" -}}
{{- $of := list (index . 0) (index . 1) -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ index . 2 }}
  labels:
    {{- include "killick.labelsOf" $of | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  ports:
    - {name: admin, port: {{ (index . 0).Values.admin.port }}, targetPort: admin}
  selector:
    {{- include "killick.selectorOf" $of | nindent 4 }}
{{- end -}}
