{{- define "dejaview.mounts" -}}/etc/dejaview{{- end -}}

{{- /* librdkafka option -> Secret and key: a stage's own win. */ -}}
{{- define "dejaview.kafkaOptions" -}}
{{- mergeOverwrite (deepCopy .root.Values.secrets.kafka.options) (index .root.Values .stage).kafka.options | toYaml -}}
{{- end -}}

{{- /* The settings file of a stage: `config`, and what the chart knows better. Files of secrets are named, never read. */ -}}
{{- define "dejaview.config" -}}
{{- $secrets := .root.Values.secrets -}}
{{- $folder := printf "%s/secrets" (include "dejaview.mounts" .) -}}
{{- $config := deepCopy .root.Values.config -}}
{{- $kafka := $config.kafka -}}
{{- $options := $kafka.options | default dict -}}
{{- with (index .root.Values .stage).kafka.username -}}
{{- $_ := set $options "sasl.username" . -}}
{{- end -}}
{{- if and $secrets.kafka.ca.name (not (hasKey $options "ssl.ca.location")) -}}
{{- $_ := set $options "ssl.ca.location" (printf "%s/kafka-ca.pem" $folder) -}}
{{- end -}}
{{- $files := $kafka.option_files | default dict -}}
{{- range $option, $_ := include "dejaview.kafkaOptions" . | fromYaml -}}
{{- $_ := set $files $option (printf "%s/kafka/%s" $folder $option) -}}
{{- end -}}
{{- $_ := set $kafka "options" $options -}}
{{- $_ := set $kafka "option_files" $files -}}
{{- if has .stage (list "decide" "index") -}}
{{- if $secrets.milvus.token.name -}}{{- $_ := set $config.index "token_file" (printf "%s/milvus-token" $folder) -}}{{- end -}}
{{- if $secrets.milvus.ca.name -}}{{- $_ := set $config.index "server_pem" (printf "%s/milvus-ca.pem" $folder) -}}{{- end -}}
{{- end -}}
{{- if and (eq .stage "encode") $secrets.s3.secretAccessKey.name -}}
{{- $intake := $config.intake | default dict -}}
{{- $_ := set $intake "s3_secret_access_key_file" (printf "%s/s3-secret-access-key" $folder) -}}
{{- $_ := set $config "intake" $intake -}}
{{- end -}}
{{- $_ := set $config "health" (mergeOverwrite ($config.health | default dict) (dict "host" "0.0.0.0" "port" 9464)) -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "dejaview.secretFile" -}}
- secret:
    name: {{ .secret.name | quote }}
    items: [{key: {{ .secret.key | quote }}, path: {{ .path | quote }}}]
{{ end -}}

{{- /* Sources of a stage's volume of secrets: those that the stage needs, and no others. */ -}}
{{- define "dejaview.secretFiles" -}}
{{- $secrets := .root.Values.secrets -}}
{{- range $option, $secret := include "dejaview.kafkaOptions" . | fromYaml -}}
{{- include "dejaview.secretFile" (dict "secret" $secret "path" (printf "kafka/%s" $option)) -}}
{{- end -}}
{{- if $secrets.kafka.ca.name -}}
{{- include "dejaview.secretFile" (dict "secret" $secrets.kafka.ca "path" "kafka-ca.pem") -}}
{{- end -}}
{{- if has .stage (list "decide" "index") -}}
{{- if $secrets.milvus.token.name -}}
{{- include "dejaview.secretFile" (dict "secret" $secrets.milvus.token "path" "milvus-token") -}}
{{- end -}}
{{- if $secrets.milvus.ca.name -}}
{{- include "dejaview.secretFile" (dict "secret" $secrets.milvus.ca "path" "milvus-ca.pem") -}}
{{- end -}}
{{- end -}}
{{- if and (eq .stage "encode") $secrets.s3.secretAccessKey.name -}}
{{- include "dejaview.secretFile" (dict "secret" $secrets.s3.secretAccessKey "path" "s3-secret-access-key") -}}
{{- end -}}
{{- end -}}

{{- /* A ConfigMap with the settings file of a stage. */ -}}
{{- define "dejaview.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "dejaview.name" . }}
  labels: {{- include "dejaview.labels" . | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
data:
  dejaview.yaml: |
    {{- include "dejaview.config" . | nindent 4 }}
{{ end -}}
