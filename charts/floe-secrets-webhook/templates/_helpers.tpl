{{/* Sets the values that are absent from .Values to their defaults: `helm upgrade --reuse-values` has only the values of
     the older chart. Every template and NOTES.txt begin with this. It renders nothing. */}}
{{- define "floe.defaults" -}}
{{- range $path, $default := .Files.Get "files/defaults.yaml" | fromYaml }}
{{- $section := $.Values }}
{{- $keys := splitList "." $path }}
{{- range initial $keys }}
{{- if not (kindIs "map" (get $section .)) }}{{ $_ := set $section . dict }}{{ end }}
{{- $section = get $section . }}
{{- end }}
{{- if not (hasKey $section (last $keys)) }}{{ $_ := set $section (last $keys) $default }}{{ end }}
{{- end }}
{{- /* The values of an older chart have controller.nudge: false keeps the retries disabled. */}}
{{- with .Values.controller }}
{{- if hasKey . "nudge" }}{{ $_ := set . "retryOwners" (and .retryOwners .nudge) }}{{ end }}
{{- end }}
{{- end }}

{{/* Names. Every string that a template renders is in quotes, because YAML does not read names such as 1234, 1e3 and on
     as strings. */}}

{{/* The chart's name, or its alias in a parent chart. An alias may have capital letters and underscores. */}}
{{- define "floe.chartName" -}}
{{- .Chart.Name | lower | replace "_" "-" | trimAll "-" }}
{{- end }}

{{- define "floe.name" -}}
{{- .Values.nameOverride | default (include "floe.chartName" .) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of a Service has no dots and begins with a letter. The name of a release may have dots and begin with a
     digit. */}}
{{- define "floe.fullname" -}}
{{- $name := include "floe.name" . }}
{{- $full := .Values.fullnameOverride }}
{{- if not $full }}
{{- $full = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- end }}
{{- if regexMatch "^[0-9]" $full }}{{ $full = printf "floe-%s" $full }}{{ end }}
{{- regexReplaceAll "-+$" ($full | replace "." "-" | trunc 50) "" }}
{{- end }}

{{- define "floe.controllerName" -}}
{{- printf "%s-controller" (include "floe.fullname" . | trimSuffix "-webhook") }}
{{- end }}

{{- define "floe.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "floe.configurationName" -}}
{{- printf "%s%s" .Values.webhook.namePrefix (include "floe.fullname" .) }}
{{- end }}

{{- define "floe.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "floe.fullname" .) }}
{{- end }}

{{- define "floe.controllerServiceAccountName" -}}
{{- .Values.controller.serviceAccount.name | default (include "floe.controllerName" .) }}
{{- end }}

{{/* The Secret of self-managed certificates has another name, so that an upgrade may change tls.mode: Helm does not own
     the Secret that cert-manager created, and the type of a Secret cannot change. */}}
{{- define "floe.tlsSecretName" -}}
{{- $suffix := ternary "-tls-self" "-tls" (eq .Values.tls.mode "self-managed") }}
{{- .Values.tls.secretName | default (printf "%s%s" (include "floe.fullname" .) $suffix) }}
{{- end }}

{{/* Names of `admin`. Its Secret has another name in mode `self-managed`, for the same reason. */}}
{{- define "floe.adminName" -}}
{{- printf "%s-admin" (include "floe.fullname" .) }}
{{- end }}

{{/* Where the store of `admin` is: claim, pod or database. */}}
{{- define "floe.storePlace" -}}
{{- if .Values.admin.store.url }}database{{ else if .Values.admin.persistence.enabled }}claim{{ else }}pod{{ end }}
{{- end }}

{{/* Ports of the hosts in the URL of the database, as a list in JSON. */}}
{{- define "floe.databasePorts" -}}
{{- $ports := list }}
{{- $authority := regexReplaceAll "^[a-z]+://([^/?]*@)?" .Values.admin.store.url "" | regexFind "^[^/?]*" }}
{{- range splitList "," $authority }}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "5432" | int) }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{- define "floe.adminServiceAccountName" -}}
{{- .Values.admin.serviceAccount.name | default (include "floe.adminName" .) }}
{{- end }}

{{- define "floe.adminTlsSecretName" -}}
{{- $suffix := ternary "-tls-self" "-tls" (eq .Values.tls.mode "self-managed") }}
{{- .Values.admin.tls.secretName | default (printf "%s%s" (include "floe.adminName" .) $suffix) }}
{{- end }}

{{/* DNS name by which replicas of the webhook reach the collector. */}}
{{- define "floe.adminHost" -}}
{{- printf "%s.%s.svc" (include "floe.adminName" .) (include "floe.namespace" .) }}
{{- end }}

{{- define "floe.keySecretName" -}}
{{- printf "%s-audit-key" (include "floe.fullname" .) }}
{{- end }}

{{- define "floe.claimName" -}}
{{- printf "%s-audit" (include "floe.fullname" .) }}
{{- end }}

{{- define "floe.collectorPort" -}}9444{{- end }}

{{- define "floe.caSecretName" -}}
{{- printf "%s-ca" (include "floe.tlsSecretName" .) }}
{{- end }}

{{/* DNS names that the API server calls, as a JSON list: the Service's, and the URL's host unless that is an address. */}}
{{- define "floe.tlsNames" -}}
{{- $names := concat (list (printf "%s.%s.svc" (include "floe.fullname" .) (include "floe.namespace" .))) .Values.tls.extraDnsNames }}
{{- $host := include "floe.urlHost" . }}
{{- if and $host (not (include "floe.urlAddress" .)) }}{{ $names = append $names $host }}{{ end }}
{{- $names | uniq | toJson }}
{{- end }}

{{- define "floe.urlHost" -}}
{{- if .Values.webhook.url }}{{ (urlParse .Values.webhook.url).hostname }}{{ end }}
{{- end }}

{{/* The URL's host, if it is an IP address. */}}
{{- define "floe.urlAddress" -}}
{{- $host := include "floe.urlHost" . }}
{{- if regexMatch "^[0-9.]+$|:" $host }}{{ $host }}{{ end }}
{{- end }}

{{/* Whether this release has replicas of the webhook. Without replicas, webhook.url is served elsewhere. */}}
{{- define "floe.serves" -}}
{{- if or (gt (int .Values.replicas) 0) .Values.autoscaling.enabled }}yes{{ end }}
{{- end }}

{{/* Whether the webhook records its trail at all. YAML 1.1 reads off as false. */}}
{{- define "floe.records" -}}
{{- if ne (.Values.audit.output | default "off" | toString) "off" }}yes{{ end }}
{{- end }}

{{/* Whether replicas of the webhook send their records to `admin`. */}}
{{- define "floe.ships" -}}
{{- if and .Values.admin.enabled (include "floe.records" .) }}yes{{ end }}
{{- end }}

{{/* Callers of the admission port */}}

{{- define "floe.clientCA" -}}
{{- or .Values.tls.clientCA.secretName .Values.tls.clientCA.configMapName }}
{{- end }}

{{/* Whether the NetworkPolicy restricts callers. It does not apply to pods in the nodes' network. */}}
{{- define "floe.policyNamesCallers" -}}
{{- $policy := .Values.networkPolicy }}
{{- if and $policy.enabled (not .Values.hostNetwork) (or $policy.podCIDRs $policy.admission.from) }}yes{{ end }}
{{- end }}

{{/* Whether every caller of the admission port counts as the API server. */}}
{{- define "floe.trustedCallers" -}}
{{- if or (include "floe.clientCA" .) (include "floe.policyNamesCallers" .) }}true{{ else }}false{{ end }}
{{- end }}

{{/* Peers that may reach the admission port, as a YAML list; empty for everybody. IPv4 ranges are excluded from
     0.0.0.0/0, IPv6 ranges from ::/0. */}}
{{- define "floe.admissionPeers" -}}
{{- $v4 := list }}
{{- $v6 := list }}
{{- range .Values.networkPolicy.podCIDRs }}
{{- if contains ":" . }}{{ $v6 = append $v6 . }}{{ else }}{{ $v4 = append $v4 . }}{{ end }}
{{- end }}
{{- $peers := list }}
{{- with $v4 }}{{ $peers = append $peers (dict "ipBlock" (dict "cidr" "0.0.0.0/0" "except" .)) }}{{ end }}
{{- with $v6 }}{{ $peers = append $peers (dict "ipBlock" (dict "cidr" "::/0" "except" .)) }}{{ end }}
{{- with concat $peers .Values.networkPolicy.admission.from }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* LabelSelector as one string, as in `a=b,c in (d,e),!f`. */}}
{{- define "floe.selectorString" -}}
{{- $all := list }}
{{- range $key, $value := .matchLabels }}
{{- $all = append $all (printf "%s=%s" $key $value) }}
{{- end }}
{{- range .matchExpressions }}
{{- $values := join "," .values }}
{{- if eq .operator "In" }}{{ $all = append $all (printf "%s in (%s)" .key $values) }}
{{- else if eq .operator "NotIn" }}{{ $all = append $all (printf "%s notin (%s)" .key $values) }}
{{- else if eq .operator "Exists" }}{{ $all = append $all .key }}
{{- else }}{{ $all = append $all (printf "!%s" .key) }}
{{- end }}
{{- end }}
{{- join "," $all }}
{{- end }}

{{/* Labels. The labels of selectors may never change, because the selector of a Deployment is immutable. */}}

{{- define "floe.selectorLabels" -}}
app.kubernetes.io/name: {{ include "floe.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "floe.labels" -}}
helm.sh/chart: {{ printf "%s-%s" (include "floe.chartName" .) .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "floe.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- if not .Chart.IsRoot }}
# The key of this chart's values in the parent chart's values, for doctor.
floe.dev/subchart: {{ .Chart.Name | trimAll "-_" | quote }}
{{- end }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Pods */}}

{{- define "floe.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Fields that all pods share. */}}
{{- define "floe.podSpec" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.hostUsers) }}
hostUsers: {{ .Values.hostUsers | toJson }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end }}

{{/* Prefers different nodes for the replicas of a component; a cluster of one node works too. Takes the root and the
     component. */}}
{{- define "floe.apart" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "floe.selectorLabels" .root | nindent 12 }}
            app.kubernetes.io/component: {{ .component | quote }}
{{- end }}

{{- define "floe.logArgs" -}}
- --log-format={{ .Values.log.format }}
- {{ printf "--log=%s" .Values.log.filter | quote }}
{{- end }}

{{/* Renders nothing without a collector. */}}
{{- define "floe.traceArgs" -}}
{{- if .Values.tracing.endpoint -}}
- {{ printf "--otlp-endpoint=%s" .Values.tracing.endpoint | quote }}
- --trace-ratio={{ .Values.tracing.samplingRatio }}
- --pod-name=$(POD_NAME)
{{- if .Values.tracing.ca.configMapName }}
- --otlp-ca=/collector-ca/{{ .Values.tracing.ca.key }}
{{- end }}
{{- end }}
{{- end }}

{{- define "floe.collectorCA" -}}
{{- and .Values.tracing.endpoint .Values.tracing.ca.configMapName }}
{{- end }}

{{- define "floe.collectorCAVolume" -}}
- name: collector-ca
  configMap:
    name: {{ .Values.tracing.ca.configMapName | quote }}
    items:
      - key: {{ .Values.tracing.ca.key | quote }}
        path: {{ .Values.tracing.ca.key | quote }}
{{- end }}

{{- define "floe.collectorCAMount" -}}
- name: collector-ca
  mountPath: /collector-ca
  readOnly: true
{{- end }}

{{/* What a replica of the webhook needs to send its records: the spool, a token that only the collector takes, and the
     CA of the collector's certificate. The token's file and the CA's are read again when they change. The Secret is
     optional, so that the webhook starts without `admin`; the private key in it is not mounted. */}}
{{- define "floe.shippingVolumes" -}}
- name: audit-spool
  emptyDir:
    sizeLimit: {{ .Values.audit.spool.sizeLimit | quote }}
- name: audit-token
  projected:
    defaultMode: 288
    sources:
      - serviceAccountToken:
          audience: floe-secrets-audit
          expirationSeconds: 3600
          path: token
- name: audit-ca
  secret:
    secretName: {{ include "floe.adminTlsSecretName" . | quote }}
    optional: true
    defaultMode: 288
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}

{{- define "floe.shippingMounts" -}}
- name: audit-spool
  mountPath: /var/spool/floe-audit
- name: audit-token
  mountPath: /var/run/floe-audit
  readOnly: true
- name: audit-ca
  mountPath: /etc/floe-audit/ca
  readOnly: true
{{- end }}

{{/* Size such as 5Gi, in MiB. */}}
{{- define "floe.mebibytes" -}}
{{- $factor := get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[MGT]i$" .) }}
{{- mul (regexFind "^[0-9]+" . | int64) $factor }}
{{- end }}

{{/* Arguments that the webhook and the controller must share. */}}
{{- define "floe.sharedArgs" -}}
# Pods in this namespace are never mutated.
- --own-namespace=$(POD_NAMESPACE)
{{- with .Values.webhook.exemptNamespaces }}
- --exempt-namespaces={{ join "," . }}
{{- end }}
- {{ printf "--sidecar-containers=%s" (join "," .Values.sidecarContainers) | quote }}
{{- end }}

{{/* Address of a listener, host:port. Takes the root and the port. */}}
{{- define "floe.listen" -}}
{{ .root.Values.listenAddress }}:{{ .port }}
{{- end }}

{{- define "floe.probes" -}}
startupProbe:
  httpGet:
    path: /livez
    port: ops
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: ops
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: ops
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}
