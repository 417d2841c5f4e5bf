//go:build tools

// Package tools names Argo CD's programs, so that go.mod and go.sum pin them.
package tools

import _ "github.com/argoproj/argo-cd/v3/cmd"
