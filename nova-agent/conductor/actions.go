package conductor

import (
	"context"
	"strings"
	"time"

	"novaagent/nova-agent/objects"
)

// EventFailure is how an event of a server action failed.
type EventFailure struct {
	Value string // the exception's text
	Trace string // must not be empty: Nova calls an event without one a success
}

// EventStart notes that an event of the server action under way has begun here,
// "compute_start_instance". The action is found by ctx's request ID; without a
// project in the request context it is the instance's latest. ErrActionNotFound.
func (c *Client) EventStart(ctx context.Context, instanceUUID, event string) error {
	_, err := c.classAction(ctx, "InstanceActionEvent", "event_start", args{instanceUUID, event},
		kwargs{"want_result": false, "host": c.host})
	return err
}

// EventFinish notes that the event has ended, in success if failure is nil.
func (c *Client) EventFinish(ctx context.Context, instanceUUID, event string, failure *EventFailure) error {
	k := kwargs{"exc_val": nil, "exc_tb": nil, "want_result": false}
	if failure != nil {
		k["exc_val"], k["exc_tb"] = failure.Value, failure.Trace
	}
	_, err := c.classAction(ctx, "InstanceActionEvent", "event_finish_with_failure", args{instanceUUID, event}, k)
	return err
}

// maxFaultMessage is the width of the column, in bytes as Nova cuts it.
const maxFaultMessage = 255

// CreateFault records why an operation on an instance failed. code is an HTTP
// status; the API shows details of a fault of code 500 to administrators only.
// message is cut to 255 bytes.
func (c *Client) CreateFault(ctx context.Context, instanceUUID string, code int, message, details string) error {
	if len(message) > maxFaultMessage {
		message = strings.ToValidUTF8(message[:maxFaultMessage], "")
	}
	return c.act(ctx, &objects.InstanceFault{
		InstanceUUID: objects.Of(instanceUUID),
		Code:         objects.Of(int64(code)),
		Message:      objects.Of(message),
		Details:      objects.Of(details),
		Host:         objects.Of(c.host),
	}, "create")
}

// AuthorizeConsole stores a console's permission for ttl and returns its token,
// which is also in t then. ErrTokenInUse.
func (c *Client) AuthorizeConsole(ctx context.Context, t *objects.ConsoleAuthToken, ttl time.Duration) (string, error) {
	raw, err := c.objectAction(ctx, t, "authorize", args{int64(ttl / time.Second)}, nil)
	if err != nil {
		return "", err
	}
	return text("ConsoleAuthToken.authorize", raw)
}

// CleanConsoleAuths takes back all permissions for the consoles of an instance.
func (c *Client) CleanConsoleAuths(ctx context.Context, instanceUUID string) error {
	_, err := c.classAction(ctx, "ConsoleAuthToken", "clean_console_auths_for_instance", args{instanceUUID}, nil)
	return err
}

// CleanExpiredConsoleAuths removes those that have run out, of all hosts as Nova's
// own compute services do.
func (c *Client) CleanExpiredConsoleAuths(ctx context.Context) error {
	_, err := c.classAction(ctx, "ConsoleAuthToken", "clean_expired_console_auths", nil, nil)
	return err
}

// TaskLog reads the record of a usage audit of this host. ErrNotFound if there is
// none. Times outside objects have no zone on the wire.
func (c *Client) TaskLog(ctx context.Context, name string, begin, end time.Time) (*objects.TaskLog, error) {
	const layout = "2006-01-02T15:04:05.000000"
	return get[objects.TaskLog](ctx, c, "get",
		args{name, begin.UTC().Format(layout), end.UTC().Format(layout), c.host}, nil)
}

// BeginTask stores the record of an audit that begins.
func (c *Client) BeginTask(ctx context.Context, t *objects.TaskLog) error {
	return c.act(ctx, t, "begin_task")
}

// EndTask stores its end.
func (c *Client) EndTask(ctx context.Context, t *objects.TaskLog) error {
	return c.act(ctx, t, "end_task")
}
