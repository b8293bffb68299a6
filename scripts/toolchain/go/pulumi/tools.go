//go:build tools

// Package tools pins the Pulumi CLI: `go build` compiles the main package
// named here at exactly the versions of go.mod and go.sum.
package tools

import _ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
