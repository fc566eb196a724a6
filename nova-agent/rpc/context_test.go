package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestRequestContext(t *testing.T) {
	sent := `{"auth_token":"gAAA-secret","global_request_id":"req-g","is_admin":false,"new":{"x":[1.0]},"project_id":"p",` +
		`"project_name":"pn","request_id":"req-1","roles":["member"],"service_catalog":[{"secret":1}],"user_id":"u","user_name":"un"}`
	rc := new(RequestContext)
	if err := json.Unmarshal([]byte(sent), rc); err != nil {
		t.Fatal(err)
	}
	if rc.RequestID() != "req-1" || rc.GlobalRequestID() != "req-g" || rc.UserID() != "u" || rc.ProjectID() != "p" ||
		rc.AuthToken() != "gAAA-secret" || rc.UserName() != "un" || rc.ProjectName() != "pn" || rc.IsAdmin() ||
		!reflect.DeepEqual(rc.Roles(), []string{"member"}) {
		t.Errorf("%s", mustJSON(rc))
	}
	if got := string(mustJSON(rc)); got != sent {
		t.Errorf("got %s", got)
	}

	up := rc.Elevated().Elevated()
	if !up.IsAdmin() || !reflect.DeepEqual(up.Roles(), []string{"member", "admin"}) || up.RequestID() != "req-1" ||
		up.AuthToken() != "gAAA-secret" || string(up.Get("new")) != `{"x":[1.0]}` {
		t.Errorf("elevated: %s", mustJSON(up))
	}
	if rc.IsAdmin() || len(rc.Roles()) != 1 {
		t.Error("the original has changed")
	}
	if got := string(rc.ReadDeleted("yes").Get("read_deleted")); got != `"yes"` {
		t.Errorf("read_deleted: %s", got)
	}

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "context", rc)
	for _, text := range []string{rc.String(), fmt.Sprintf("%v %+v %#v %s", rc, rc, rc, rc), log.String()} {
		if strings.Contains(text, "secret") {
			t.Errorf("the token is told: %s", text)
		}
		if !strings.Contains(text, "req-1") {
			t.Errorf("the request is not told: %s", text)
		}
	}

	for _, rc := range []*RequestContext{nil, {}, NewRequestContext(nil)} {
		if rc.RequestID() != "" || rc.IsAdmin() || rc.Roles() != nil || rc.Get("x") != nil || string(mustJSON(rc)) != "{}" && string(mustJSON(rc)) != "null" {
			t.Errorf("%s", mustJSON(rc))
		}
	}
	if rc := (&RequestContext{}).Elevated(); !rc.IsAdmin() {
		t.Error("an empty context cannot be elevated")
	}

	admin := NewAdminContext()
	if !admin.IsAdmin() || admin.ProjectID() != "" || string(admin.Get("project_id")) != "null" ||
		len(admin.RequestID()) != len("req-")+36 || admin.RequestID() == NewAdminContext().RequestID() {
		t.Errorf("admin: %s", mustJSON(admin))
	}
}
