{{- define "sesamy-mailmojo.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end }}

{{- define "sesamy-mailmojo.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sesamy-mailmojo.labels" -}}
{{ include "sesamy-mailmojo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* What the pods of the service and of its jobs share. */ -}}
{{- define "sesamy-mailmojo.pod" -}}
automountServiceAccountToken: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
volumes:
  - name: tmp
    emptyDir: {}
  - name: secrets
    secret:
      secretName: {{ required "existingSecret: name the Secret that holds the credentials" .Values.existingSecret }}
      defaultMode: 0440
      items:
        {{- range $setting, $key := .Values.secretKeys }}
        {{- if $key }}
        - { key: {{ $key | quote }}, path: {{ $setting | quote }} }
        {{- end }}
        {{- end }}
  {{- with .Values.kafkaTls.existingSecret }}
  - name: kafka-tls
    secret:
      secretName: {{ . }}
      defaultMode: 0440
  {{- end }}
{{- end }}

{{- define "sesamy-mailmojo.container" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - { name: ADMIN_HOST, value: "0.0.0.0" }
  - { name: ADMIN_PORT, value: "8080" }
  {{- $service := include "sesamy-mailmojo.name" . }}
  {{- $inside := list $service (printf "%s.%s" $service .Release.Namespace) (printf "%s.%s.svc" $service .Release.Namespace) }}
  {{- $hosts := concat $inside .Values.adminAllowedHosts }}
  - { name: ADMIN_ALLOWED_HOSTS, value: {{ join "," $hosts | quote }} }
  {{- range list "SESAMY_CLIENT_ID" "MAILMOJO_LIST_ID" }}
  {{- $_ := required (printf "settings.%s: required" .) (index $.Values.settings .) }}
  {{- end }}
  {{- range $name, $value := .Values.settings }}
  {{- if hasKey $.Values.secretKeys $name }}
  {{- fail (printf "settings.%s: a secret belongs into the Secret that existingSecret names" $name) }}
  {{- end }}
  {{- if ne (toString $value) "" }}
  - { name: {{ $name }}, value: {{ toString $value | quote }} }
  {{- end }}
  {{- end }}
  {{- range $name, $value := .Values.otel }}
  - { name: {{ $name }}, value: {{ toString $value | quote }} }
  {{- end }}
  {{- range $setting, $key := .Values.secretKeys }}
  {{- if $key }}
  - { name: {{ $setting }}_FILE, value: /etc/sesamy-mailmojo/secrets/{{ $setting }} }
  {{- end }}
  {{- end }}
  {{- if .Values.kafkaTls.existingSecret }}
  {{- range $setting, $key := .Values.kafkaTls.keys }}
  {{- if $key }}
  - { name: {{ $setting }}, value: {{ printf "/etc/sesamy-mailmojo/kafka-tls/%s" $key | quote }} }
  {{- end }}
  {{- end }}
  {{- end }}
volumeMounts:
  - { name: tmp, mountPath: /tmp }
  - { name: secrets, mountPath: /etc/sesamy-mailmojo/secrets, readOnly: true }
  {{- if .Values.kafkaTls.existingSecret }}
  - { name: kafka-tls, mountPath: /etc/sesamy-mailmojo/kafka-tls, readOnly: true }
  {{- end }}
resources: {{ toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}
