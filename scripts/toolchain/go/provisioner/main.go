// Command provisioner gives the sandbox cluster volumes that enforce their
// size: each is an ext4 file system in a sparse file, mounted through a loop
// device. Provisioning and deletion follow Kubernetes' own library for external
// provisioners; growing is the loop in grow.go.
//
// A volume's file lies at VOLUMES/<name>.img and is mounted at VOLUMES/<name>.
// The PersistentVolume points at a directory *inside* the file system, which
// does not exist while the file is not mounted: a pod then fails to start, and
// can never write beside its volume.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	provisionerName = "durable-postgres.local/loop-file"
	minimumBytes    = 8 << 20 // ext4 with a journal
)

func main() {
	if len(os.Args) != 3 {
		klog.Exit("usage: provisioner KUBECONFIG VOLUMES")
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		klog.Exitf("reading the kubeconfig: %v", err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	volumes := loopFiles{root: os.Args[2]}
	ctx := context.Background()
	go growForever(ctx, client, volumes)
	controller.NewProvisionController(ctx, client, provisionerName, volumes, controller.LeaderElection(false)).Run(ctx)
}

type loopFiles struct{ root string }

func (l loopFiles) image(name string) string { return filepath.Join(l.root, name+".img") }
func (l loopFiles) mount(name string) string { return filepath.Join(l.root, name) }
func (l loopFiles) data(name string) string  { return filepath.Join(l.root, name, "volume") }

// Provision makes the file system under a temporary name and renames it, so
// that a killed provisioner leaves nothing that looks finished.
func (l loopFiles) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	size := o.PVC.Spec.Resources.Requests[v1.ResourceStorage]
	if size.Value() < minimumBytes {
		return nil, controller.ProvisioningFinished, fmt.Errorf("the claim asks for %s; a volume here holds at least 8Mi", size.String())
	}
	if o.PVC.Spec.VolumeMode != nil && *o.PVC.Spec.VolumeMode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, fmt.Errorf("volumeMode Block is not offered here; use Filesystem")
	}
	if _, err := os.Stat(l.image(o.PVName)); os.IsNotExist(err) {
		if err := l.format(o.PVName, size.Value()); err != nil {
			return nil, controller.ProvisioningFinished, err
		}
	}
	if err := l.mountVolume(o.PVName); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	mode := v1.PersistentVolumeFilesystem
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: size},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: l.data(o.PVName)}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{o.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes a volume whose claim is gone and whose reclaim policy is Delete.
func (l loopFiles) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	if mounted(l.mount(volume.Name)) {
		if err := run("umount", l.mount(volume.Name)); err != nil {
			return err
		}
	}
	if err := os.Remove(l.image(volume.Name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Remove(l.mount(volume.Name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (l loopFiles) format(name string, bytes int64) error {
	unfinished := filepath.Join(l.root, "."+name+".unfinished")
	if err := run("truncate", "--size", strconv.FormatInt(bytes, 10), unfinished); err != nil {
		return err
	}
	// No blocks reserved for root: the whole size is the pod's, as on a real volume.
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, l.image(name))
}

func (l loopFiles) mountVolume(name string) error {
	if !mounted(l.mount(name)) {
		if err := os.MkdirAll(l.mount(name), 0o755); err != nil {
			return err
		}
		if err := run("mount", "-o", "loop", l.image(name), l.mount(name)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(l.data(name), 0o755); err != nil {
		return err
	}
	return nil
}

func mounted(path string) bool { return exec.Command("mountpoint", "-q", path).Run() == nil }

func run(program string, args ...string) error {
	if output, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", program, args, err, output)
	}
	return nil
}
