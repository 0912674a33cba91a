// SPDX-License-Identifier: ISC

//go:build tools

// Package acme names the programs of the ACME tests, so that go.mod pins their versions.
package acme

import (
	_ "github.com/letsencrypt/pebble/v2/cmd/pebble"
	_ "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv"
)
