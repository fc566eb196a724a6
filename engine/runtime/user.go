package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// maxAccounts bounds /etc/passwd and /etc/group, in bytes: they are the image's.
const maxAccounts = 1 << 20

// maxID is the largest uid or gid that is accepted. Docker's limit, too; what is
// beyond would wrap (CVE-2024-40635).
const maxID = 1<<31 - 1

// account is a resolved USER.
type account struct {
	uid, gid uint32
	groups   []uint32
	home     string // empty if unknown
}

// lookupUser resolves Docker's USER syntax with the accounts of the file system at root: "user", "user:group", each a
// name or a number. errdefs.ErrInvalid: there is no such user or group.
func lookupUser(root *os.File, spec string) (account, error) {
	user, group, hasGroup := strings.Cut(spec, ":")
	var a account
	passwd, err := readAccounts(root, "etc/passwd")
	if err != nil {
		return a, err
	}
	uid, numeric, err := parseID(user)
	if err != nil {
		return a, fmt.Errorf("user %q: %w", spec, err)
	}
	found := false
	var name string
	eachLine(passwd, func(f [][]byte) bool {
		// name:password:uid:gid:comment:home:shell (passwd(5))
		if len(f) < 6 {
			return true
		}
		id, isID, err := parseID(string(f[2]))
		if err != nil || !isID {
			return true
		}
		if string(f[0]) == user || numeric && id == uid {
			gid, isGID, err := parseID(string(f[3]))
			if err != nil || !isGID {
				return true
			}
			a.uid, a.gid, a.home, name, found = id, gid, string(f[5]), string(f[0]), true
			return false
		}
		return true
	})
	switch {
	case !found && !numeric && user != "":
		return a, fmt.Errorf("unable to find user %s: no matching entries in passwd file: %w", user, errdefs.ErrInvalid)
	case !found:
		a.uid = uid
	}
	if !hasGroup && !found {
		return a, nil
	}
	groups, err := readAccounts(root, "etc/group")
	if err != nil {
		return a, err
	}
	gid, gidNumeric, err := parseID(group)
	if err != nil {
		return a, fmt.Errorf("group %q: %w", spec, err)
	}
	found = false
	eachLine(groups, func(f [][]byte) bool {
		// name:password:gid:members (group(5))
		if len(f) < 4 {
			return true
		}
		id, isID, err := parseID(string(f[2]))
		if err != nil || !isID {
			return true
		}
		if hasGroup {
			if string(f[0]) == group || gidNumeric && id == gid {
				a.gid, found = id, true
				return false
			}
			return true
		}
		for member := range bytes.SplitSeq(f[3], []byte(",")) {
			if string(member) == name && len(a.groups) < 1024 {
				a.groups = append(a.groups, id)
			}
		}
		return true
	})
	if hasGroup && !found {
		if !gidNumeric {
			return a, fmt.Errorf("unable to find group %s: no matching entries in group file: %w", group, errdefs.ErrInvalid)
		}
		a.gid = gid
	}
	return a, nil
}

// homeOf is the home directory of uid, "/" if unknown.
func homeOf(root *os.File, uid uint32) string {
	a, err := lookupUser(root, strconv.FormatUint(uint64(uid), 10))
	if err != nil || a.home == "" {
		return "/"
	}
	return a.home
}

// parseID reads a number; numeric is false for a name. A number out of range is
// errdefs.ErrInvalid, never a name.
func parseID(s string) (id uint32, numeric bool, err error) {
	if s == "" {
		return 0, true, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) || err == nil && (n < 0 || n > maxID) {
		return 0, false, fmt.Errorf("uids and gids must be in range 0-%d: %w", maxID, errdefs.ErrInvalid)
	}
	return uint32(n), err == nil, nil
}

// readAccounts returns nil for an absent file.
func readAccounts(root *os.File, name string) ([]byte, error) {
	b, err := kernel.ReadFileInRoot(root, name, maxAccounts)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", name, err)
	}
	return b, nil
}

func eachLine(b []byte, f func(fields [][]byte) bool) {
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			if !f(bytes.Split(line, []byte(":"))) {
				return
			}
		}
	}
}
