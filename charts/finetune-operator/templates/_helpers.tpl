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
{{- $of := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- if .Values.image.digest }}{{ $of = printf "%s@%s" .Values.image.repository .Values.image.digest }}{{ end -}}
{{- include "finetune.mirrored" (list . $of) -}}
{{- end -}}

{{- define "finetune.trainerImage" -}}
{{- include "finetune.mirrored" (list . .Values.trainer.image) -}}
{{- end -}}

{{- define "finetune.preflightImage" -}}
{{- include "finetune.mirrored" (list . .Values.trainer.preflightImage) -}}
{{- end -}}

{{- /* The registry is the first part of a name if it has a dot or a colon; imageRegistry takes its place. */ -}}
{{- define "finetune.mirrored" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{- with $root.Values.imageRegistry -}}
{{ . }}/{{ regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $image "" }}
{{- else -}}
{{ $image }}
{{- end -}}
{{- end -}}

{{- /* What all Pods of jobs get, as JSON for the operator. */ -}}
{{- define "finetune.podSettings" -}}
{{- $pods := .Values.pods }}
{{- if not $pods.caBundle }}{{ $pods = omit $pods "caBundle" }}{{ end -}}
{{- $pods | toJson -}}
{{- end -}}
