{{- /* What the schema cannot say: values that contradict each other, or that would show a secret. Each message names both
and the fix. */ -}}
{{- define "dejaview.checks" -}}
{{- include "dejaview.checkOwned" . -}}
{{- include "dejaview.checkSecrets" . -}}
{{- include "dejaview.checkS3" . -}}
{{- include "dejaview.checkGpu" . -}}
{{- range $stage := list "encode" "decide" "index" -}}
{{- include "dejaview.checkScale" (dict "root" $ "stage" $stage) -}}
{{- end -}}
{{- range $stage := list "encode" "decide" "index" "topicsJob" -}}
{{- include "dejaview.checkEnv" (dict "root" $ "stage" $stage) -}}
{{- end -}}
{{- end -}}

{{- define "dejaview.checkOwned" -}}
{{- $config := .Values.config -}}
{{- if hasKey $config "instance_id" -}}
{{- fail "config.instance_id would be the same for all pods, and they would fence each other: leave it out; the chart takes the pod's name" -}}
{{- end -}}
{{- range $name := list "host" "port" -}}
{{- if hasKey ($config.health | default dict) $name -}}
{{- fail (printf "config.health.%s is the chart's (probes and Services are made for it): leave it out" $name) -}}
{{- end -}}
{{- end -}}
{{- if hasSuffix ".db" $config.index.uri -}}
{{- fail (printf "config.index.uri %q is Milvus Lite, which serves one process only: set the address of a Milvus server" $config.index.uri) -}}
{{- end -}}
{{- end -}}

{{- /* As stream/config.py: librdkafka options whose value is a secret. */ -}}
{{- define "dejaview.secretOption" -}}(?i)passw|passphrase|secret|token|credential|jaas|key\.pem|certificate\.pem|oauthbearer\.config|kinit\.cmd{{- end -}}

{{- define "dejaview.checkSecrets" -}}
{{- $config := .Values.config -}}
{{- range $section := list "options" "consumer_options" "producer_options" -}}
{{- range $option, $_ := index $config.kafka $section -}}
{{- if regexMatch (include "dejaview.secretOption" $) $option -}}
{{- fail (printf "config.kafka.%s: %s would lie in a ConfigMap for all to read: put it into a Secret and name that in secrets.kafka.options, %s: {name: …, key: …}" $section $option $option) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey $config.index "token" -}}
{{- fail "config.index.token would lie in a ConfigMap for all to read: put it into a Secret and name that in secrets.milvus.token" -}}
{{- end -}}
{{- if or (contains "@" $config.index.uri) (contains "@" $config.kafka.bootstrap_servers) -}}
{{- fail "config.index.uri and config.kafka.bootstrap_servers take host and port only: a user and a password belong in secrets.milvus.token and secrets.kafka.options" -}}
{{- end -}}
{{- range $name, $secret := dict "s3_access_key_id" "accessKeyId" "s3_secret_access_key" "secretAccessKey" -}}
{{- if hasKey ($config.intake | default dict) $name -}}
{{- fail (printf "config.intake.%s would lie in a ConfigMap for all to read: put it into a Secret and name that in secrets.s3.%s" $name $secret) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "dejaview.checkEnv" -}}
{{- $stage := .stage -}}
{{- range (index .root.Values .stage).env -}}
{{- if and .value (regexMatch "(?i)passw|secret|token|credential" .name) (not (hasSuffix "_FILE" (upper .name))) -}}
{{- fail (printf "%s.env: the value of %s would lie in the pod for all to read: use valueFrom.secretKeyRef" $stage .name) -}}
{{- end -}}
{{- if eq (upper .name) "DEJAVIEW_INSTANCE_ID" -}}
{{- fail (printf "%s.env: DEJAVIEW_INSTANCE_ID is the chart's, which takes the pod's name: leave it out" $stage) -}}
{{- end -}}
{{- if has (upper .name) (list "DEJAVIEW_HEALTH__HOST" "DEJAVIEW_HEALTH__PORT" "DEJAVIEW_DRAIN_S") -}}
{{- fail (printf "%s.env: %s would differ from what the probes and the grace period are made for: leave it out (config.drain_s sets the drain)" $stage .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "dejaview.checkS3" -}}
{{- if ne (empty .Values.secrets.s3.accessKeyId.name) (empty .Values.secrets.s3.secretAccessKey.name) -}}
{{- fail "secrets.s3.accessKeyId and secrets.s3.secretAccessKey belong together: set both or none" -}}
{{- end -}}
{{- end -}}

{{- define "dejaview.checkGpu" -}}
{{- $runtime := .Values.config.model.runtime | default "auto" -}}
{{- $count := int .Values.encode.gpu.count -}}
{{- if and $count (has $runtime (list "openvino" "torch")) -}}
{{- fail (printf "encode.gpu.count is %d and config.model.runtime is %s, which computes on the CPU: set model.runtime to tensorrt or torch-cuda, or gpu.count to 0" $count $runtime) -}}
{{- end -}}
{{- if and (not $count) (has $runtime (list "tensorrt" "torch-cuda")) -}}
{{- fail (printf "config.model.runtime is %s and encode.gpu.count is 0: set gpu.count to 1, or model.runtime to auto" $runtime) -}}
{{- end -}}
{{- end -}}

{{- define "dejaview.checkScale" -}}
{{- $values := index .root.Values .stage -}}
{{- $partitions := include "dejaview.partitions" . | int -}}
{{- $setting := "config.topics.partitions" -}}
{{- if and (eq .stage "encode") .root.Values.encode.partitions -}}{{- $setting = "encode.partitions" -}}{{- end -}}
{{- if and $values.hpa.enabled $values.keda.enabled -}}
{{- fail (printf "%s.hpa.enabled and %s.keda.enabled exclude each other (KEDA makes an HPA of its own): turn one off" .stage .stage) -}}
{{- end -}}
{{- $pods := list (list "replicas" $values.replicas) -}}
{{- range $scaler := list "hpa" "keda" -}}
{{- $bounds := index $values $scaler -}}
{{- if $bounds.enabled -}}
{{- $most := $bounds.maxReplicas | default $partitions | int -}}
{{- if gt (int $bounds.minReplicas) $most -}}
{{- fail (printf "%s.%s.minReplicas (%d) is above the most pods (%d): lower minReplicas" $.stage $scaler (int $bounds.minReplicas) $most) -}}
{{- end -}}
{{- $pods = list (list (printf "%s.maxReplicas" $scaler) $most) -}}
{{- end -}}
{{- end -}}
{{- range $pods -}}
{{- if gt (int (index . 1)) $partitions -}}
{{- fail (printf "%s.%s (%d) is above %s (%d): a pod without a partition has nothing to do and is never ready; lower %s" $.stage (index . 0) (int (index . 1)) $setting $partitions (index . 0)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
