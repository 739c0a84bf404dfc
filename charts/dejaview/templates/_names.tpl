{{- /* Templates take `(dict "root" $ "stage" NAME)`, where NAME is a key of the values: encode, decide, index, topicsJob. */ -}}

{{- define "dejaview.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* What a stage's objects are called; the Job's component is `topics`. */ -}}
{{- define "dejaview.component" -}}
{{- ternary "topics" .stage (eq .stage "topicsJob") -}}
{{- end -}}

{{- define "dejaview.name" -}}
{{- include "dejaview.fullname" .root }}-{{ include "dejaview.component" . -}}
{{- end -}}

{{- define "dejaview.releaseSelector" -}}
app.kubernetes.io/name: dejaview
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "dejaview.selector" -}}
{{ include "dejaview.releaseSelector" .root }}
app.kubernetes.io/component: {{ include "dejaview.component" . }}
{{- end -}}

{{- define "dejaview.releaseLabels" -}}
{{ include "dejaview.releaseSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "dejaview.labels" -}}
{{ include "dejaview.releaseLabels" .root }}
app.kubernetes.io/component: {{ include "dejaview.component" . }}
{{- end -}}

{{- define "dejaview.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "dejaview.fullname" .) -}}
{{- end -}}

{{- define "dejaview.image" -}}
{{- $image := mergeOverwrite (deepCopy .root.Values.image) (index .root.Values .stage).image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* Partitions of the topic that a stage reads: no stage may have more pods. */ -}}
{{- define "dejaview.partitions" -}}
{{- $partitions := .root.Values.config.topics.partitions -}}
{{- if eq .stage "encode" -}}{{- $partitions = .root.Values.encode.partitions | default $partitions -}}{{- end -}}
{{- int $partitions -}}
{{- end -}}

{{- define "dejaview.kind" -}}
{{- ternary "StatefulSet" "Deployment" (eq .stage "decide") -}}
{{- end -}}
