{{- /* The CRDs of charts by API group, in the format of `stand-in.crds`. */ -}}

{{- define "crds-of.monitoring.coreos.com" -}}
monitoring.coreos.com/v1alpha1 alertmanagerconfigs AlertmanagerConfig Namespaced amcfg
monitoring.coreos.com/v1 alertmanagers Alertmanager Namespaced am
monitoring.coreos.com/v1 podmonitors PodMonitor Namespaced pmon
monitoring.coreos.com/v1 probes Probe Namespaced prb
monitoring.coreos.com/v1alpha1 prometheusagents PrometheusAgent Namespaced promagent
monitoring.coreos.com/v1 prometheuses Prometheus Namespaced prom
monitoring.coreos.com/v1 prometheusrules PrometheusRule Namespaced promrule
monitoring.coreos.com/v1alpha1 scrapeconfigs ScrapeConfig Namespaced scfg
monitoring.coreos.com/v1 servicemonitors ServiceMonitor Namespaced smon
monitoring.coreos.com/v1 thanosrulers ThanosRuler Namespaced ruler
{{- end }}

{{- define "crds-of.gateway.networking.k8s.io" -}}
gateway.networking.k8s.io/v1,v1alpha3 backendtlspolicies BackendTLSPolicy Namespaced btlspolicy
gateway.networking.k8s.io/v1,v1beta1 gatewayclasses GatewayClass Cluster gc
gateway.networking.k8s.io/v1,v1beta1 gateways Gateway Namespaced gtw
gateway.networking.k8s.io/v1 grpcroutes GRPCRoute Namespaced
gateway.networking.k8s.io/v1,v1beta1 httproutes HTTPRoute Namespaced
gateway.networking.k8s.io/v1beta1 referencegrants ReferenceGrant Namespaced refgrant
{{- end }}

{{- define "crds-of.gateway.networking.k8s.io/experimental" -}}
gateway.networking.k8s.io/v1alpha2 tcproutes TCPRoute Namespaced
gateway.networking.k8s.io/v1alpha3,v1alpha2 tlsroutes TLSRoute Namespaced
gateway.networking.k8s.io/v1alpha2 udproutes UDPRoute Namespaced
gateway.networking.x-k8s.io/v1alpha1 xbackendtrafficpolicies XBackendTrafficPolicy Namespaced xbtrafficpolicy
gateway.networking.x-k8s.io/v1alpha1 xlistenersets XListenerSet Namespaced lset
gateway.networking.x-k8s.io/v1alpha1 xmeshes XMesh Cluster mesh
{{- end }}

{{- define "crds-of.gateway.envoyproxy.io" -}}
gateway.envoyproxy.io/v1alpha1 backends Backend Namespaced be
gateway.envoyproxy.io/v1alpha1 backendtrafficpolicies BackendTrafficPolicy Namespaced btp
gateway.envoyproxy.io/v1alpha1 clienttrafficpolicies ClientTrafficPolicy Namespaced ctp
gateway.envoyproxy.io/v1alpha1 envoyextensionpolicies EnvoyExtensionPolicy Namespaced eep
gateway.envoyproxy.io/v1alpha1 envoypatchpolicies EnvoyPatchPolicy Namespaced epp
gateway.envoyproxy.io/v1alpha1 envoyproxies EnvoyProxy Namespaced eproxy
gateway.envoyproxy.io/v1alpha1 httproutefilters HTTPRouteFilter Namespaced hrf
gateway.envoyproxy.io/v1alpha1 securitypolicies SecurityPolicy Namespaced sp
{{- end }}

{{- define "crds-of.grafana.integreatly.org" -}}
grafana.integreatly.org/v1beta1 grafanaalertrulegroups GrafanaAlertRuleGroup Namespaced
grafana.integreatly.org/v1beta1 grafanacontactpoints GrafanaContactPoint Namespaced
grafana.integreatly.org/v1beta1 grafanadashboards GrafanaDashboard Namespaced
grafana.integreatly.org/v1beta1 grafanadatasources GrafanaDatasource Namespaced
grafana.integreatly.org/v1beta1 grafanafolders GrafanaFolder Namespaced
grafana.integreatly.org/v1beta1 grafanalibrarypanels GrafanaLibraryPanel Namespaced
grafana.integreatly.org/v1beta1 grafanamutetimings GrafanaMuteTiming Namespaced
grafana.integreatly.org/v1beta1 grafananotificationpolicies GrafanaNotificationPolicy Namespaced
grafana.integreatly.org/v1beta1 grafananotificationpolicyroutes GrafanaNotificationPolicyRoute Namespaced
grafana.integreatly.org/v1beta1 grafananotificationtemplates GrafanaNotificationTemplate Namespaced
grafana.integreatly.org/v1beta1 grafanas Grafana Namespaced
grafana.integreatly.org/v1beta1 grafanaserviceaccounts GrafanaServiceAccount Namespaced
{{- end }}

{{- define "crds-of.keda.sh" -}}
keda.sh/v1alpha1 clustertriggerauthentications ClusterTriggerAuthentication Cluster cta
keda.sh/v1alpha1 scaledjobs ScaledJob Namespaced sj
keda.sh/v1alpha1 scaledobjects ScaledObject Namespaced so
keda.sh/v1alpha1 triggerauthentications TriggerAuthentication Namespaced ta
eventing.keda.sh/v1alpha1 cloudeventsources CloudEventSource Namespaced
eventing.keda.sh/v1alpha1 clustercloudeventsources ClusterCloudEventSource Cluster
{{- end }}

{{- define "crds-of.snapshot.storage.k8s.io" -}}
snapshot.storage.k8s.io/v1 volumesnapshotclasses VolumeSnapshotClass Cluster vsclass
snapshot.storage.k8s.io/v1 volumesnapshotcontents VolumeSnapshotContent Cluster vsc
snapshot.storage.k8s.io/v1 volumesnapshots VolumeSnapshot Namespaced vs
groupsnapshot.storage.k8s.io/v1beta1 volumegroupsnapshotclasses VolumeGroupSnapshotClass Cluster vgsclass
groupsnapshot.storage.k8s.io/v1beta1 volumegroupsnapshotcontents VolumeGroupSnapshotContent Cluster vgsc
groupsnapshot.storage.k8s.io/v1beta1 volumegroupsnapshots VolumeGroupSnapshot Namespaced vgs
{{- end }}

{{- define "crds-of.postgresql.cnpg.io" -}}
postgresql.cnpg.io/v1 backups Backup Namespaced
postgresql.cnpg.io/v1 clusterimagecatalogs ClusterImageCatalog Cluster
postgresql.cnpg.io/v1 clusters Cluster Namespaced
postgresql.cnpg.io/v1 databases Database Namespaced
postgresql.cnpg.io/v1 imagecatalogs ImageCatalog Namespaced
postgresql.cnpg.io/v1 poolers Pooler Namespaced
postgresql.cnpg.io/v1 publications Publication Namespaced
postgresql.cnpg.io/v1 scheduledbackups ScheduledBackup Namespaced
postgresql.cnpg.io/v1 subscriptions Subscription Namespaced
{{- end }}
