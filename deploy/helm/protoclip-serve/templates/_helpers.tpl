{{- define "protoclip-serve.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{- define "protoclip-serve.selector" -}}
app.kubernetes.io/name: protoclip-serve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "protoclip-serve.labels" -}}
{{ include "protoclip-serve.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | quote }}
{{- end -}}

{{- /* Further arguments of the command: those of the values, and the keys where there are any. */ -}}
{{- define "protoclip-serve.arguments" -}}
{{- $keys := ternary (list "--keys-file=/etc/protoclip/keys") (list) (ne .Values.gateway.keysSecret "") -}}
{{- concat .Values.arguments $keys | toYaml -}}
{{- end -}}
