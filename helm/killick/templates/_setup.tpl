{{/* Of (root, topics' command, catalog's command, restart policy): the template of the pods of setup. What comes first
     is an init container. */}}
{{- define "killick.setup" -}}
{{- $root := index . 0 -}}
{{- $of := list $root "setup" -}}
{{- $file := list "--config" "/etc/killick/killick.toml" -}}
{{- $steps := list -}}
{{- $volumes := dict -}}
{{- if $root.Values.setup.topics -}}
{{- $args := concat (list "topics" (index . 1)) $file -}}
{{- with and (eq "apply" (index . 1)) (get $root.Values.inputPartitions "events") -}}
{{- $args = concat $args (list "--input-partitions" (printf "%d" (int .))) -}}
{{- end -}}
{{- $steps = append $steps (dict "name" "topics" "args" $args) -}}
{{- $_ := set $volumes "topics" (include "killick.sources" (list $root "topics")) -}}
{{- end -}}
{{- if $root.Values.setup.catalog -}}
{{- $steps = append $steps (dict "name" "catalog" "args" (concat (list "catalog" (index . 2)) $file)) -}}
{{- $_ := set $volumes "catalog" (include "killick.sources" (list $root "catalog")) -}}
{{- end -}}
metadata:
  {{- include "killick.podMetadata" $of | nindent 2 }}
spec:
  restartPolicy: {{ index . 3 }}
  {{- include "killick.podSpec" $of | nindent 2 }}
  {{- with initial $steps }}
  initContainers:
    {{- range . }}
    {{- include "killick.step" (list $root . $volumes) | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    {{- include "killick.step" (list $root (last $steps) $volumes) | nindent 4 }}
  volumes:
    {{- include "killick.volumes" (list $root $volumes) | nindent 4 }}
{{- end -}}

{{/* Of (root, step, sources by name of the step). */}}
{{- define "killick.step" -}}
{{- $step := index . 1 -}}
- name: {{ $step.name }}
  command: [killick]
  args:
    {{- toYaml $step.args | nindent 4 }}
  {{- include "killick.container" (list (index . 0) "setup" dict) | nindent 2 }}
  volumeMounts:
    {{- include "killick.mounts" (list (index . 0) (get (index . 2) $step.name) $step.name) | nindent 4 }}
{{- end -}}
