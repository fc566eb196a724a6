package dockerapi

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/moby/moby/api/types/container"

	"novaagent/engine/errdefs"
)

func TestInstruct(t *testing.T) {
	for line, want := range map[string]string{
		`CMD ["a", "b c"]`:                 `{"Cmd":["a","b c"]}`,
		`cmd a "b c"`:                      `{"Cmd":["/bin/sh","-c","a \"b c\""]}`,
		`CMD []`:                           `{"Cmd":[]}`,
		`CMD [a]`:                          `{"Cmd":["/bin/sh","-c","[a]"]}`,
		`ENTRYPOINT ["/x"]`:                `{"Entrypoint":["/x"]}`,
		`ENV A b  c`:                       `{"Env":["OLD=1","A=b  c"]}`,
		`ENV A=b B="c d" C='e "f"' D=g\ h`: `{"Env":["OLD=1","A=b","B=c d","C=e \"f\"","D=g h"]}`,
		`ENV OLD=2`:                        `{"Env":["OLD=2"]}`,
		`ENV A=`:                           `{"Env":["OLD=1","A="]}`,
		`LABEL a=b "c d"="e=f"`:            `{"Labels":{"a":"b","c d":"e=f"}}`,
		`EXPOSE 80 53/udp`:                 `{"ExposedPorts":{"53/udp":{},"80/tcp":{}}}`,
		`VOLUME /a /b`:                     `{"Volumes":{"/a":{},"/b":{}}}`,
		`VOLUME ["/a b"]`:                  `{"Volumes":{"/a b":{}}}`,
		`USER a:b`:                         `{"User":"a:b"}`,
		`WORKDIR /a/../b`:                  `{"WorkingDir":"/b"}`,
		`WORKDIR c`:                        `{"WorkingDir":"/old/c"}`,
		`STOPSIGNAL SIGINT`:                `{"StopSignal":"SIGINT"}`,
		`ONBUILD RUN a b`:                  `{"OnBuild":["RUN a b"]}`,
	} {
		c := container.Config{Env: []string{"OLD=1"}, WorkingDir: "/old"}
		if err := instruct(&c, line); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		var wanted map[string]json.RawMessage
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]json.RawMessage
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		for field, value := range wanted {
			if string(got[field]) != string(value) {
				t.Errorf("%s: %s is %s, want %s", line, field, got[field], value)
			}
		}
	}
	for _, line := range []string{
		"", "CMD", "RUN x", "FROM x", "HEALTHCHECK x", "nonsense", "ENV A", `ENV A="b`, `ENV A=b\`, "ENV A=b c", "ENV =b", "LABEL a",
		"EXPOSE x", "EXPOSE 99999", "EXPOSE 80/what", "USER a b", `VOLUME [" "]`, "ONBUILD ONBUILD RUN x", "ONBUILD from x",
	} {
		c := container.Config{}
		if err := instruct(&c, line); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", line, err)
		}
	}
}
