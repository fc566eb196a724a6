// Package check tells an operator what a machine and its services offer, and what
// does not work without what is missing. `nova-agent check` prints it.
package check

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Result is one thing that was looked for.
type Result struct {
	Name   string `json:"name"`
	Found  bool   `json:"found"`
	Detail string `json:"detail,omitempty"` // a version, or why it was not found
	// Without is what does not work when it is missing.
	Without string `json:"without,omitempty"`
	// Needed: servers cannot run without it.
	Needed bool `json:"needed"`
}

// Service is a question to a service. Ask returns what answered.
type Service struct {
	Name, Without string
	Needed        bool
	Ask           func(ctx context.Context) (detail string, err error)
}

// Services asks all at the same time, each for no longer than timeout, and returns the
// answers in order.
func Services(ctx context.Context, timeout time.Duration, all []Service) []Result {
	results := make([]Result, len(all))
	var wait sync.WaitGroup
	for i, s := range all {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			detail, err := s.Ask(ctx)
			r := Result{Name: s.Name, Found: err == nil, Detail: detail, Without: s.Without, Needed: s.Needed}
			if err != nil {
				r.Detail = err.Error()
			}
			results[i] = r
		})
	}
	wait.Wait()
	return results
}

// Missing counts the needed things that were not found.
func Missing(results []Result) (n int) {
	for _, r := range results {
		if r.Needed && !r.Found {
			n++
		}
	}
	return n
}

// Print writes results as a table and returns how many needed ones are missing.
func Print(w io.Writer, title string, results []Result) (missing int) {
	fmt.Fprintf(w, "%s\n", title)
	for _, r := range results {
		mark := "found"
		switch {
		case !r.Found && r.Needed:
			mark = "MISSING"
		case !r.Found:
			mark = "absent"
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-7s  %-28s %s", mark, r.Name, r.Detail), " "))
		if !r.Found && r.Without != "" {
			fmt.Fprintf(w, "  %-7s  %-28s without it: %s\n", "", "", r.Without)
		}
	}
	return Missing(results)
}
