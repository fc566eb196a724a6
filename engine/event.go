package engine

import (
	"time"
)

// NetworkRef names a network.
type NetworkRef struct{ ID, Name, Driver string }

// Action is what happened to a container, volume or network.
type Action string

const (
	ActionCreate  Action = "create"
	ActionStart   Action = "start"
	ActionDie     Action = "die"     // Event.Exit tells how
	ActionStop    Action = "stop"    // after the die that Stop asked for
	ActionKill    Action = "kill"    // a signal was sent
	ActionOOM     Action = "oom"     // before the die
	ActionPause   Action = "pause"   //
	ActionUnpause Action = "unpause" //
	ActionRestart Action = "restart" // after the start
	ActionResize  Action = "resize"
	ActionRename  Action = "rename"
	ActionUpdate  Action = "update"
	ActionAttach  Action = "attach"
	ActionDestroy Action = "destroy"
	ActionArchive Action = "archive-path"   // files were copied out
	ActionExtract Action = "extract-to-dir" // files were copied in
	ActionExport  Action = "export"

	// Of volumes, besides create and destroy.
	ActionMount   Action = "mount"   // before the container's start
	ActionUnmount Action = "unmount" // after its die

	// Action "health_status: " and the status: Container.Health.Status has changed.
	// Of networks, besides create and destroy.
	ActionConnect    Action = "connect"    // before the container's start
	ActionDisconnect Action = "disconnect" // around its die

	ActionExecCreate Action = "exec_create"
	ActionExecStart  Action = "exec_start"
	ActionExecDie    Action = "exec_die"
)

// Event is one thing that happened.
type Event struct {
	// Seq grows by one with each event of one Engine; it begins again when the
	// agent does.
	Seq    uint64
	Time   time.Time
	Action Action

	ID    string
	Name  string
	Owner Owner
	Image string
	// State is the container's after the event.
	State State
	// Exit is set for ActionDie and ActionExecDie.
	Exit Exit
	// Signal is set for ActionKill.
	Signal int
	// ExecID is set for the actions of execs.
	ExecID string
	// Command is set with ExecID: the exec's, in one line.
	Command string
	Labels  map[string]string
	// Volume is the name of the volume it happened to. The other fields are then of
	// the container that mounted it, or empty.
	Volume string
	// Driver is that volume's plug-in, empty for "local".
	Driver string
	// Network is the network it happened to. Of the other fields only ID may be set, to that of the
	// container that came or went.
	Network NetworkRef
	// Mount is set for ActionMount and ActionUnmount.
	Mount Mount
}
