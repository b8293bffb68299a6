/** One process of the node. */
export interface Component {
  readonly name: string;
  /** Program and arguments, as seen inside the node. */
  readonly command: readonly string[];
  /** Runs in the host's network, to be reachable at 127.0.0.1; default false: the node's own. */
  readonly onHostNetwork?: boolean;
  /** Started only when the API server answers; default false. */
  readonly afterApiServer?: boolean;
}

const PKI = "/var/lib/sandbox/pki";
const API_SOCKET = "/run/api.sock";

/** The node's address in its own network; `enter.sh`, `Corefile` and `addons.yaml` name it too. */
export const NODE_ADDRESS = "172.31.0.1";
export const API_SERVICE_ADDRESS = "10.96.0.1";
export const NODE_NAME = "sandbox";

/** The processes of the node in the order of their start, for an API server at `port` of the host. */
export function components(port: number, cgroup: string): readonly Component[] {
  return [
    {
      name: "etcd",
      command: [
        "etcd",
        "--data-dir=/var/lib/etcd",
        "--listen-client-urls=https://127.0.0.1:2379",
        "--advertise-client-urls=https://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--client-cert-auth",
        `--trusted-ca-file=${PKI}/ca.crt`,
        `--cert-file=${PKI}/etcd.crt`,
        `--key-file=${PKI}/etcd.key`,
        "--auto-compaction-retention=1",
      ],
    },
    { name: "containerd", command: ["containerd", "--config=/opt/config/containerd.toml"] },
    {
      name: "kube-apiserver",
      command: [
        "/opt/kubernetes/kube-apiserver",
        "--etcd-servers=https://127.0.0.1:2379",
        `--etcd-cafile=${PKI}/ca.crt`,
        `--etcd-certfile=${PKI}/apiserver.crt`,
        `--etcd-keyfile=${PKI}/apiserver.key`,
        `--client-ca-file=${PKI}/ca.crt`,
        `--tls-cert-file=${PKI}/apiserver.crt`,
        `--tls-private-key-file=${PKI}/apiserver.key`,
        `--kubelet-client-certificate=${PKI}/apiserver.crt`,
        `--kubelet-client-key=${PKI}/apiserver.key`,
        `--kubelet-certificate-authority=${PKI}/ca.crt`,
        "--kubelet-preferred-address-types=InternalIP",
        `--advertise-address=${NODE_ADDRESS}`,
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        `--service-account-key-file=${PKI}/service-account.pub`,
        `--service-account-signing-key-file=${PKI}/service-account.key`,
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
      ],
    },
    {
      name: "relay-in",
      command: ["socat", `UNIX-LISTEN:${API_SOCKET},fork,unlink-early,mode=600`, `TCP:${NODE_ADDRESS}:6443`],
    },
    {
      name: "relay-out",
      command: ["socat", `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr`, `UNIX-CONNECT:${API_SOCKET}`],
      onHostNetwork: true,
    },
    {
      name: "kube-controller-manager",
      command: [
        "/opt/kubernetes/kube-controller-manager",
        `--kubeconfig=${PKI}/kube-controller-manager.kubeconfig`,
        `--authentication-kubeconfig=${PKI}/kube-controller-manager.kubeconfig`,
        `--authorization-kubeconfig=${PKI}/kube-controller-manager.kubeconfig`,
        `--service-account-private-key-file=${PKI}/service-account.key`,
        `--root-ca-file=${PKI}/ca.crt`,
        "--use-service-account-credentials",
        "--leader-elect=false",
      ],
      afterApiServer: true,
    },
    {
      name: "kube-scheduler",
      command: [
        "/opt/kubernetes/kube-scheduler",
        `--kubeconfig=${PKI}/kube-scheduler.kubeconfig`,
        `--authentication-kubeconfig=${PKI}/kube-scheduler.kubeconfig`,
        `--authorization-kubeconfig=${PKI}/kube-scheduler.kubeconfig`,
        "--leader-elect=false",
      ],
      afterApiServer: true,
    },
    {
      name: "kubelet",
      command: [
        "/opt/kubernetes/kubelet",
        "--config=/opt/config/kubelet.yaml",
        `--kubeconfig=${PKI}/kubelet.kubeconfig`,
        `--hostname-override=${NODE_NAME}`,
        `--node-ip=${NODE_ADDRESS}`,
        `--cgroup-root=/${cgroup}`,
      ],
      afterApiServer: true,
    },
    {
      name: "kube-proxy",
      command: ["/opt/kubernetes/kube-proxy", "--config=/opt/config/kube-proxy.yaml"],
      afterApiServer: true,
    },
    {
      name: "coredns",
      command: ["/opt/kubernetes/coredns", "-conf=/opt/config/Corefile"],
      afterApiServer: true,
    },
    {
      name: "provisioner",
      command: ["/opt/kubernetes/provisioner", `${PKI}/provisioner.kubeconfig`, "/var/lib/sandbox/volumes"],
      afterApiServer: true,
    },
  ];
}
