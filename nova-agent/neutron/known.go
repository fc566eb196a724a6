package neutron

import "sync"

// maxKnown bounds the networks that are kept in mind; a node's servers use few.
const maxKnown = 1024

// knownNetworks are those that ports were made on before, as they were then. A network never
// changes its project, so that a port on one of the project's own may be made without asking for it first.
// The zero value is ready to use.
type knownNetworks struct {
	mu   sync.Mutex
	byID map[string]network
}

func (k *knownNetworks) remember(nets map[string]network) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byID == nil || len(k.byID)+len(nets) > maxKnown {
		k.byID = map[string]network{}
	}
	for id, n := range nets {
		k.byID[id] = n
	}
}

func (k *knownNetworks) forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byID, id)
}

func (k *knownNetworks) get(id string) (network, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n, ok := k.byID[id]
	return n, ok
}

// recall takes the wanted networks from memory and tells whether all ports can be made at once:
// each on a network of the project's own that bears no DNS domain, with the default security
// group. What the networks are now is asked beside that and admitted before anything else is done; a
// port that was made in vain is deleted.
func (a *allocation) recall() bool {
	if names := a.req.SecurityGroups; len(a.wanted) == 0 || len(names) > 1 || (len(names) == 1 && names[0] != "default") {
		return false
	}
	a.nets = map[string]network{}
	for i := range a.wanted {
		w := &a.wanted[i]
		n, ok := a.c.known.get(w.NetworkID)
		if !ok {
			return false
		}
		a.nets[n.ID] = n
		if !a.boundAtOnce(w) {
			return false
		}
	}
	return true
}
