{{- /* The pod of a stage, or of the Job (`command`: what follows `dejaview`). */ -}}
{{- define "dejaview.pod" -}}
{{- $values := index .root.Values .stage -}}
{{- $worker := ne .stage "topicsJob" -}}
metadata:
  labels:
    # Without the versions: a new chart alone is no reason for new pods.
    {{- include "dejaview.selector" . | nindent 4 }}
    {{- if $worker }}
    dejaview/worker: "true"
    {{- end }}
    {{- with .root.Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A pod reads its settings once, at start: other settings are another pod.
    checksum/config: {{ include "dejaview.config" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if $worker }}
  serviceAccountName: {{ include "dejaview.serviceAccount" .root }}
  {{- end }}
  automountServiceAccountToken: false
  # Such variables would look like settings: DEJAVIEW_….
  enableServiceLinks: false
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- with .root.Values.security.runAsUser }}
    runAsUser: {{ int64 . }}
    {{- end }}
    {{- with .root.Values.security.runAsGroup }}
    runAsGroup: {{ int64 . }}
    fsGroup: {{ int64 . }}
    {{- end }}
    seccompProfile: {type: RuntimeDefault}
  {{- if $worker }}
  # Above the drain: the program ends by itself after drain_s, with or without what hangs.
  terminationGracePeriodSeconds: {{ add (ceil .root.Values.config.drain_s) 15 }}
  {{- else }}
  restartPolicy: OnFailure
  {{- end }}
  {{- include "dejaview.placement" . | nindent 2 }}
  containers:
    - name: {{ include "dejaview.component" . }}
      {{- include "dejaview.container" . | nindent 6 }}
  volumes:
    - name: settings
      configMap: {name: {{ include "dejaview.name" . }}}
    - name: tmp
      emptyDir: {sizeLimit: {{ .root.Values.security.tmpSizeLimit }}}
    {{- with include "dejaview.secretFiles" . }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources: {{- . | nindent 10 }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "dejaview.container" -}}
{{- $values := index .root.Values .stage -}}
image: {{ include "dejaview.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [dejaview]
args: {{ toJson .command }}
env: {{- include "dejaview.env" . | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- if ne .stage "topicsJob" }}
ports:
  - {name: health, containerPort: 9464}
{{- include "dejaview.probes" . | nindent 0 }}
{{- end }}
resources: {{- include "dejaview.resources" . | nindent 2 }}
volumeMounts:
  - {name: settings, mountPath: {{ include "dejaview.mounts" . }}/settings, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  {{- if include "dejaview.secretFiles" . }}
  - {name: secrets, mountPath: {{ include "dejaview.mounts" . }}/secrets, readOnly: true}
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "dejaview.probes" -}}
# Two minutes until the port is open: imports, and Kafka's answer (kafka.request_timeout_s).
startupProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 60
# Fails when a loop has stood still for health.loop_stall_s; not when Kafka or Milvus is away.
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{- define "dejaview.env" -}}
{{- $values := index .root.Values .stage -}}
- {name: HOME, value: /tmp}
- {name: DEJAVIEW_CACHE, value: /tmp/dejaview}
{{- if eq .stage "decide" }}
- name: DEJAVIEW_INSTANCE_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- $key := .root.Values.secrets.s3.accessKeyId }}
{{- if and (eq .stage "encode") $key.name }}
- name: DEJAVIEW_INTAKE__S3_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {{ toJson $key }}}
{{- end }}
{{- with $values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "dejaview.resources" -}}
{{- $values := index .root.Values .stage -}}
{{- $resources := deepCopy $values.resources -}}
{{- if eq .stage "encode" -}}
{{- with $values.gpu -}}
{{- if .count -}}
{{- $limits := $resources.limits | default dict -}}
{{- $_ := set $limits .resource (int .count) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- /* Where pods go. */ -}}
{{- define "dejaview.placement" -}}
{{- $values := index .root.Values .stage -}}
{{- $tolerations := $values.tolerations -}}
{{- if and (eq .stage "encode") $values.gpu -}}
{{- if $values.gpu.count -}}
{{- $tolerations = append $tolerations (dict "key" $values.gpu.resource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- end -}}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if $values.topologySpread }}
topologySpreadConstraints:
  {{- $selector := dict "labelSelector" (dict "matchLabels" (include "dejaview.selector" . | fromYaml)) }}
  {{- range $values.topologySpread }}
  - {{- toYaml (merge (deepCopy .) $selector) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}
