package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

const growInterval = 2 * time.Second

// growForever enlarges volumes whose claim asks for more than they have, while
// no pod uses them: growing a mounted ext4 needs CAP_SYS_RESOURCE, which a
// container may lack. A claim in use waits until its pods are gone.
func growForever(ctx context.Context, client kubernetes.Interface, volumes loopFiles) {
	for ; ; time.Sleep(growInterval) {
		claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
		if err != nil {
			klog.ErrorS(err, "listing claims")
			continue
		}
		for i := range claims.Items {
			if err := grow(ctx, client, volumes, &claims.Items[i]); err != nil {
				klog.ErrorS(err, "growing a volume", "claim", claims.Items[i].Name)
			}
		}
	}
}

func grow(ctx context.Context, client kubernetes.Interface, volumes loopFiles, claim *v1.PersistentVolumeClaim) error {
	wanted := claim.Spec.Resources.Requests[v1.ResourceStorage]
	have := claim.Status.Capacity[v1.ResourceStorage]
	if claim.Status.Phase != v1.ClaimBound || wanted.Cmp(have) <= 0 {
		return nil
	}
	volume, err := client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err != nil || volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisionerName {
		return err
	}
	if used, err := inUse(ctx, client, claim); err != nil || used {
		return err
	}
	if err := volumes.grow(volume.Name, wanted.Value()); err != nil {
		return err
	}
	if err := patchCapacity(func(patch []byte) error {
		_, err := client.CoreV1().PersistentVolumes().Patch(ctx, volume.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}, "spec", wanted); err != nil {
		return err
	}
	return patchCapacity(func(patch []byte) error {
		_, err := client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	}, "status", wanted)
}

// inUse tells whether a pod that has not ended names the claim, whether or not
// it has started: one that starts meanwhile would find the volume unmounted.
func inUse(ctx context.Context, client kubernetes.Interface, claim *v1.PersistentVolumeClaim) (bool, error) {
	pods, err := client.CoreV1().Pods(claim.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
			continue
		}
		for _, volume := range pod.Spec.Volumes {
			if volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.ClaimName == claim.Name {
				return true, nil
			}
		}
	}
	return false, nil
}

func (l loopFiles) grow(name string, bytes int64) error {
	if mounted(l.mount(name)) {
		if err := run("umount", l.mount(name)); err != nil {
			return err
		}
	}
	// Whatever happens, the volume is mounted again at the size it has.
	defer func() {
		if err := l.mountVolume(name); err != nil {
			klog.ErrorS(err, "mounting a volume again", "volume", name)
		}
	}()
	if err := run("truncate", "--no-create", "--size", ">"+strconv.FormatInt(bytes, 10), l.image(name)); err != nil {
		return err
	}
	if err := run("e2fsck", "-f", "-p", l.image(name)); err != nil {
		return fmt.Errorf("checking the file system before it grows: %w", err)
	}
	return run("resize2fs", l.image(name))
}

func patchCapacity(apply func([]byte) error, section string, size resource.Quantity) error {
	patch, err := json.Marshal(map[string]any{section: map[string]any{"capacity": map[string]any{"storage": size.String()}}})
	if err != nil {
		return err
	}
	return apply(patch)
}
