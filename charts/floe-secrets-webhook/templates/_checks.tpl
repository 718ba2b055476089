{{/* Checks that the schema cannot express: combinations of values. Each message names the values and a fix. */}}
{{- define "floe.checks" -}}
{{- $v := .Values }}
{{- $namespace := include "floe.namespace" . }}
{{- if and (hasKey $v "enabled") (not $v.enabled) }}
{{- fail "enabled=false reached the chart, which only the condition of a parent chart's dependency can leave out. Give the dependency in the parent's Chart.yaml `condition: floe-secrets-webhook.enabled` (with an alias: `ALIAS.enabled`), or take the value out." }}
{{- end }}
{{- if and (eq $v.webhook.failurePolicy "Fail") (not $v.webhook.requireAnnotation) }}
{{- fail "webhook.failurePolicy=Fail with webhook.requireAnnotation=false would refuse every new pod of the cluster while the webhook is down. Set webhook.failurePolicy=Ignore, or leave webhook.requireAnnotation=true." }}
{{- end }}
{{- range $v.webhook.extraMatchConditions }}
{{- if contains "namespaceObject" .expression }}
{{- fail (printf "webhook.extraMatchConditions: %q uses namespaceObject, which the API server accepts and then refuses every object for. Use webhook.namespaceSelector." .name) }}
{{- end }}
{{- if has .name (list "asks-for-secrets" "not-a-mirror-pod" "not-being-deleted" "not-opted-out" "carries-defaults") }}
{{- fail (printf "webhook.extraMatchConditions: the name %q is taken by a condition of the chart. Choose another one." .name) }}
{{- end }}
{{- end }}
{{- if has $namespace (list "default" "kube-system" "kube-node-lease" "kube-public") }}
{{- fail (printf "%s is no namespace to install into: pods in the webhook's own namespace are never touched. Take one of its own: helm install --namespace floe-secrets-webhook --create-namespace." $namespace) }}
{{- end }}
{{- if and (not (include "floe.serves" .)) (not $v.webhook.url) }}
{{- fail "replicas=0 leaves nobody who serves: pods that ask for secrets would be refused. Set webhook.url to the address of a webhook outside the cluster, or replicas to at least 1." }}
{{- end }}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) }}
{{- fail (printf "autoscaling.maxReplicas=%v is less than autoscaling.minReplicas=%v." $v.autoscaling.maxReplicas $v.autoscaling.minReplicas) }}
{{- end }}
{{- if eq $v.rbac.scope "namespaces" }}
{{- if not $v.rbac.namespaces }}
{{- fail "rbac.scope=namespaces needs rbac.namespaces: the list of namespaces whose pods may ask for secrets." }}
{{- end }}
{{- if has $namespace $v.rbac.namespaces }}
{{- fail (printf "rbac.namespaces has %s, the namespace of the webhook itself: pods in there are never touched. Take it out of the list." $namespace) }}
{{- end }}
{{- else if $v.rbac.namespaces }}
{{- fail "rbac.namespaces is set and rbac.scope is cluster: the list would have no effect. Set rbac.scope=namespaces, or empty the list." }}
{{- end }}
{{- if and (eq $v.tls.mode "self-managed") (not $v.controller.enabled) }}
{{- fail "tls.mode=self-managed needs the controller, which makes the certificates. Set controller.enabled=true, or another tls.mode." }}
{{- end }}
{{- if and (eq $v.tls.mode "self-managed") (include "floe.urlAddress" .) }}
{{- fail (printf "tls.mode=self-managed makes certificates for DNS names, and webhook.url=%s has an address. Give it a name, or choose another tls.mode." $v.webhook.url) }}
{{- end }}
{{- if and (eq $v.tls.mode "self-managed") (not (include "floe.serves" .)) }}
{{- fail "tls.mode=self-managed serves from inside the cluster: with replicas=0 nobody would read the certificate. Choose another tls.mode." }}
{{- end }}
{{- $hours := dict }}
{{- range $name := list "duration" "renewBefore" "caDuration" "caRenewBefore" }}
{{- $_ := set $hours $name (get $v.tls.certManager $name | trimSuffix "h" | int) }}
{{- end }}
{{- if ge $hours.renewBefore $hours.duration }}
{{- fail (printf "tls.certManager.renewBefore=%s is not shorter than tls.certManager.duration=%s." $v.tls.certManager.renewBefore $v.tls.certManager.duration) }}
{{- end }}
{{- if ge $hours.caRenewBefore $hours.caDuration }}
{{- fail (printf "tls.certManager.caRenewBefore=%s is not shorter than tls.certManager.caDuration=%s." $v.tls.certManager.caRenewBefore $v.tls.certManager.caDuration) }}
{{- end }}
{{- if le $hours.caRenewBefore $hours.duration }}
{{- fail (printf "tls.certManager.caRenewBefore=%s is not longer than tls.certManager.duration=%s: a certificate would outlive its CA." $v.tls.certManager.caRenewBefore $v.tls.certManager.duration) }}
{{- end }}
{{- if and $v.tls.clientCA.secretName $v.tls.clientCA.configMapName }}
{{- fail "tls.clientCA.secretName and tls.clientCA.configMapName are both set: the CA can come from one of them alone." }}
{{- end }}
{{- range $name, $set := dict "podCIDRs" $v.networkPolicy.podCIDRs "admission.from" $v.networkPolicy.admission.from }}
{{- if $set }}
{{- if not $v.networkPolicy.enabled }}
{{- fail (printf "networkPolicy.%s is set and networkPolicy.enabled is false: nothing would keep pods away from the port. Set networkPolicy.enabled=true, or take networkPolicy.%s out." $name $name) }}
{{- end }}
{{- if $v.hostNetwork }}
{{- fail (printf "networkPolicy.%s is set and hostNetwork is true: no NetworkPolicy applies to pods in the nodes' network, so nothing would keep pods away from the port. Take networkPolicy.%s out; tls.clientCA works there too." $name $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq (int $v.port) (int $v.opsPort) }}
{{- fail (printf "port and opsPort are both %v: they have to differ." $v.port) }}
{{- end }}
{{- if $v.admin.enabled }}
{{- /* audit.output=off is allowed beside admin.enabled: it is in the values of older releases, and what `admin` has
       stored stays there. The webhook then records nothing and sends nothing, and NOTES.txt warns. */}}
{{- if eq (int $v.opsPort) (include "floe.collectorPort" . | int) }}
{{- fail (printf "opsPort is %v, the port of the audit trail's collector. Choose another one." $v.opsPort) }}
{{- end }}
{{- with $v.admin.store }}
{{- if .url }}
{{- if not (regexMatch "^postgres(ql)?://[^/?@]+@[^/?]+/[^/?]+" .url) }}
{{- fail "admin.store.url is not of the form postgres://USER@HOST:PORT/DATABASE." }}
{{- end }}
{{- if or (regexMatch "^[a-z]+://[^/?]*:[^/?]*@" .url) (regexMatch "(?i)[?&]password=" .url) }}
{{- fail "admin.store.url has a password, which the Deployment would show to everybody who may read it. Take it out, change it in the database, and set admin.store.passwordSecret." }}
{{- end }}
{{- if and (not .caSecret) (not (contains "sslmode=disable" .url)) }}
{{- fail "admin.store.url is set and admin.store.caSecret is empty: the certificate of the database could not be verified. Create a Secret with the CA in ca.crt and name it." }}
{{- end }}
{{- else if gt (int $v.admin.replicas) 1 }}
{{- fail (printf "admin.replicas is %v and admin.store.url is empty: a file has one writer. Set admin.store.url, or admin.replicas=1." $v.admin.replicas) }}
{{- end }}
{{- end }}
{{- if and (not $v.admin.store.url) (gt (add (include "floe.mebibytes" $v.audit.maxSize | int64) 96) (include "floe.mebibytes" $v.admin.persistence.size | int64)) }}
{{- fail (printf "audit.maxSize=%s leaves less than 96Mi of admin.persistence.size=%s free: the volume would be full before the store is. Make audit.maxSize smaller, or the volume larger." $v.audit.maxSize $v.admin.persistence.size) }}
{{- end }}
{{- if gt ($v.audit.minAge | trimSuffix "h" | int64) ($v.audit.retention | trimSuffix "h" | int64) }}
{{- fail (printf "audit.minAge=%s is longer than audit.retention=%s: lines would be deleted that have to stay." $v.audit.minAge $v.audit.retention) }}
{{- end }}
{{- if lt (include "floe.mebibytes" $v.audit.spool.sizeLimit | int64) 128 }}
{{- fail (printf "audit.spool.sizeLimit=%s is less than 128Mi: a replica keeps up to 64 MiB of records, and is evicted if it exceeds the limit." $v.audit.spool.sizeLimit) }}
{{- end }}
{{- end }}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true: every sample would be counted twice. Choose one." }}
{{- end }}
{{- if and $v.helmTest.enabled (eq (include "floe.testNamespace" .) $namespace) }}
{{- fail (printf "helmTest.namespace is %s, the namespace of the webhook itself: pods in there are never touched, so the test could not succeed. Choose another one." $namespace) }}
{{- end }}
{{- end }}

{{- define "floe.testNamespace" -}}
{{- if .Values.helmTest.namespace }}{{ .Values.helmTest.namespace }}
{{- else if eq .Values.rbac.scope "namespaces" }}{{ first .Values.rbac.namespaces }}
{{- else }}default{{ end }}
{{- end }}
