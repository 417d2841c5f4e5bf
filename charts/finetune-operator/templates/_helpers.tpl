{{- define "finetune.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- /* Releases with the same name in different namespaces must not share cluster-scoped objects. */ -}}
{{- define "finetune.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "finetune.name" .) | trunc 120 | trimSuffix "-" -}}
{{- end -}}

{{- define "finetune.labels" -}}
{{ include "finetune.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: finetune-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "finetune.selector" -}}
app.kubernetes.io/name: finetune-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "finetune.uiLabels" -}}
{{ include "finetune.uiSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: finetune-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "finetune.uiSelector" -}}
app.kubernetes.io/name: finetune-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: ui
{{- end -}}

{{- define "finetune.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "finetune.name" .) -}}
{{- end -}}

{{- define "finetune.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}
