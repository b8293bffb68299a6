// Command pulumi-resource-kubernetes is Pulumi's Kubernetes provider. The main
// package of its module embeds two generated files that the module does not
// contain; this one embeds the files they are generated from, which the build
// (scripts/toolchain/recipes.ts) lays beside it.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version"
)

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var terraformMapping []byte

func main() {
	provider.Serve("kubernetes", version.Version, schema, terraformMapping)
}
