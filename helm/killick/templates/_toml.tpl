{{/* TOML. `toToml` will not do: numbers of values are floats, and it writes 4 as 4.0 and a million as 1e+06. */}}

{{/* A value in a line. What JSON makes of a text is a text of TOML too. */}}
{{- define "killick.toml.value" -}}
{{- if kindIs "slice" . -}}
[{{ range $i, $value := . }}{{ if $i }}, {{ end }}{{ include "killick.toml.value" $value }}{{ end }}]
{{- else if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ include "killick.toml.key" $key }} = {{ include "killick.toml.value" (get $ $key) }}{{ end }} }
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) }}{{ printf "%.0f" . }}{{ else }}{{ toJson . }}{{ end -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end -}}

{{- define "killick.toml.key" -}}
{{- regexMatch "^[A-Za-z0-9_-]+$" . | ternary . (toJson .) -}}
{{- end -}}

{{/* Of (path, table): its settings, then its sections. A setting without a value is left out. */}}
{{- define "killick.toml.table" -}}
{{- $path := index . 0 -}}
{{- $table := index . 1 -}}
{{- $sections := list -}}
{{- range $key := keys $table | sortAlpha -}}
{{- $value := get $table $key -}}
{{- $isList := and (kindIs "slice" $value) (not (empty $value)) -}}
{{- if kindIs "invalid" $value -}}
{{- else if or (kindIs "map" $value) (and $isList (kindIs "map" (first (default (list 0) $value)))) -}}
{{- $sections = append $sections $key -}}
{{- else }}
{{ include "killick.toml.key" $key }} = {{ include "killick.toml.value" $value }}
{{- end -}}
{{- end -}}
{{- range $key := $sections -}}
{{- $value := get $table $key -}}
{{- $below := append $path (include "killick.toml.key" $key) -}}
{{- if kindIs "map" $value }}

[{{ join "." $below }}]
{{- include "killick.toml.table" (list $below $value) -}}
{{- else -}}
{{- range $value }}

[[{{ join "." $below }}]]
{{- include "killick.toml.table" (list $below .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
