package engine

import (
	"errors"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

func (o *networkOptions) vlanOption(driver, name, value string) error {
	return errors.New("it is not available yet")
}

func (e *Engine) chooseParent(n *Network, others []Network) error {
	return fmt.Errorf("the network driver %s is not available yet: use bridge: %w", n.Driver, errdefs.ErrUnsupported)
}

func (n *Network) vlanEndpoint(ep *network.Endpoint, o *networkOptions) {}
