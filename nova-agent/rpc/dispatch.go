package rpc

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
)

// dispatch finds the handler of a request and runs it
// (oslo_messaging/rpc/dispatcher.py, RPCDispatcher.dispatch).
func (s *Server) dispatch(ctx context.Context, in *incoming) (result any, err error) {
	served := false
	for _, e := range s.options.Endpoints {
		if e.Namespace != in.namespace || !compatible(e.Version, in.version) {
			continue
		}
		served = true
		if handler := e.Methods[in.method]; handler != nil && !strings.HasPrefix(in.method, "_") {
			return s.run(ctx, handler, in)
		}
	}
	if served {
		return nil, noSuchMethod(in.method)
	}
	return nil, unsupportedVersion(in.version, in.method)
}

// run keeps a handler's panic from ending the process.
func (s *Server) run(ctx context.Context, handler Handler, in *incoming) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "a handler panicked", "method", in.method, "panic", p, "stack", string(debug.Stack()))
			result, err = nil, fmt.Errorf("%s: internal error: %v", in.method, p)
		}
	}()
	return handler(ctx, &Request{
		Method: in.method, Namespace: in.namespace, Version: in.version, Args: in.args,
		IsCall: in.msgID != "", UniqueID: in.uniqueID,
	})
}
