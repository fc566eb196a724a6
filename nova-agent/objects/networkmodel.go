package objects

import (
	"encoding/json"
	"fmt"

	"novaagent/engine/errdefs"
)

// NetworkModel is JSON within JSON: a string on the wire whose text is the
// network information of an instance (nova/network/model.py), an array of
// interfaces, or in VIFMigrateData one interface. The text is kept as it came.
type NetworkModel string

// NewNetworkModel returns v's JSON.
func NewNetworkModel(v any) (NetworkModel, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("network model: %v: %w", err, errdefs.ErrInvalid)
	}
	return NetworkModel(text), nil
}

// Decode unmarshals the JSON text into v. An empty model leaves v alone.
func (m NetworkModel) Decode(v any) error {
	if m == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(m), v); err != nil {
		return fmt.Errorf("network model: %v: %w", err, errdefs.ErrInvalid)
	}
	return nil
}
