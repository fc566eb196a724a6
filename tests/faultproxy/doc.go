// Package faultproxy stands between a client under test and a real HTTP service
// and breaks the requests that a test chooses: nobody listens, the connection is
// reset, the answer is an error, cut off, late, garbage, or lost after the service
// has done the work. What it does not break it forwards untouched.
//
//	proxy := faultproxy.New(t, "http://127.0.0.1:8778")
//	proxy.Fail(faultproxy.Fault{Method: "PUT", Path: "/inventories", Times: 1, Do: faultproxy.Status(500, "")})
//	… the client talks to proxy.URL() …
//
// Start reading in proxy.go; faults.go lists what can go wrong.
package faultproxy
