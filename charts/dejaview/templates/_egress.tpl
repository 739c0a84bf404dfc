{{- /* What a stage may connect to. */ -}}
{{- define "dejaview.egress" -}}
{{- $policy := .root.Values.networkPolicy.egress -}}
- ports:
    {{- range $policy.dns.ports }}
    - {protocol: UDP, port: {{ int . }}}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- with $policy.dns.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{ include "dejaview.egressRule" (dict "rule" $policy.kafka "ports" (include "dejaview.kafkaPorts" .root)) }}
{{- if has .stage (list "decide" "index") }}
{{ include "dejaview.egressRule" (dict "rule" $policy.milvus "ports" (include "dejaview.milvusPorts" .root)) }}
{{- end }}
{{- if eq .stage "encode" }}
{{ include "dejaview.egressRule" (dict "rule" $policy.store "ports" (include "dejaview.storePorts" .root)) }}
{{- end }}
{{- with $policy.extra }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* A rule for TCP ports (YAML list `ports` where the value is empty); no ports, no rule. */ -}}
{{- define "dejaview.egressRule" -}}
{{- $ports := .rule.ports -}}
{{- if not $ports -}}{{- $ports = fromYamlArray .ports -}}{{- end -}}
{{- if $ports -}}
- ports:
    {{- range $ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- with .rule.to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "dejaview.kafkaPorts" -}}
{{- $ports := list -}}
{{- range splitList "," .Values.config.kafka.bootstrap_servers -}}
{{- $ports = append $ports (regexFind "[0-9]+$" (regexFind ":[0-9]+$" (trim .)) | default "9092" | int) -}}
{{- end -}}
{{- $ports | uniq | toYaml -}}
{{- end -}}

{{- define "dejaview.portOf" -}}
{{- $address := trimSuffix "/" .address -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $address) | default (ternary "443" .http (hasPrefix "https:" $address)) -}}
{{- end -}}

{{- define "dejaview.milvusPorts" -}}
- {{ include "dejaview.portOf" (dict "address" .Values.config.index.uri "http" "19530") }}
{{- end -}}

{{- define "dejaview.storePorts" -}}
{{- $intake := .Values.config.intake | default dict -}}
{{- $ports := list -}}
{{- if $intake.s3_buckets -}}
{{- $endpoint := $intake.s3_endpoint | default "https:" -}}
{{- $ports = append $ports (include "dejaview.portOf" (dict "address" $endpoint "http" "80") | int) -}}
{{- end -}}
{{- if $intake.https_enabled -}}{{- $ports = append $ports 443 -}}{{- end -}}
{{- $ports | uniq | toYaml -}}
{{- end -}}
