package compute

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/nova-agent/neutron"
)

// configDrivePath is where the tree of the config drive is mounted. A container has no block
// devices to look for the label "config-2" on; cloud-init reads this directory, too.
const configDrivePath = "/config-drive"

// maxInjected bounds an injected file, in bytes; Nova's quota is 10 KiB by default.
const maxInjected = 1 << 20

// instanceDir holds the files of an instance that are mounted into its container.
func (m *Manager) instanceDir(uuid string) string {
	return filepath.Join(m.opts.StateDir, "instances", uuid)
}

// prepareFiles writes the files that the user or the image asks for beside the image's, and
// returns their mounts: injected files, and the config drive. An earlier build's are replaced.
func (m *Manager) prepareFiles(b *buildRequest, vifs neutron.NetworkInfo) ([]engine.Mount, error) {
	uuid := b.instance.UUID.Value()
	if err := m.removeFiles(uuid); err != nil {
		return nil, err
	}
	g := guestOf(b.instance)
	if len(b.files) == 0 && !g.configDrive {
		return nil, nil
	}
	dir := m.instanceDir(uuid)
	var mounts []engine.Mount
	for i, f := range b.files {
		content, target, err := f.decode()
		if err != nil {
			return nil, err
		}
		source := filepath.Join(dir, "files", strconv.Itoa(i))
		if err := writeInto(source, content); err != nil {
			return nil, err
		}
		mounts = append(mounts, engine.Mount{Type: engine.MountBind, Source: source, Target: target, NoDev: true, NoSuid: true})
	}
	if !g.configDrive {
		return mounts, nil
	}
	tree, err := configDrive(g, b, vifs)
	if err != nil {
		return nil, err
	}
	source := filepath.Join(dir, "config-drive")
	for name, content := range tree {
		if err := writeInto(filepath.Join(source, name), content); err != nil {
			return nil, err
		}
	}
	return append(mounts, engine.Mount{Type: engine.MountBind, Source: source, Target: configDrivePath,
		ReadOnly: true, NoDev: true, NoSuid: true, NoExec: true}), nil
}

// decode gives an injected file's content and its path in the container.
func (f injectedFile) decode() (content []byte, target string, err error) {
	bad := func(why string) error {
		return &Exception{Class: "InvalidInput", Code: 400, Kind: errdefs.ErrInvalid,
			Message: fmt.Sprintf("Invalid input received: injected file %q: %s", f.path, why)}
	}
	content, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(f.content), ""))
	if err != nil {
		return nil, "", bad("it is not base64")
	}
	if len(content) > maxInjected {
		return nil, "", bad(fmt.Sprintf("it has more than %d bytes", maxInjected))
	}
	target = path.Clean("/" + f.path)
	if target == "/" || strings.ContainsRune(target, 0) {
		return nil, "", bad("it needs a path to a file")
	}
	return content, target, nil
}

// writeInto writes a file that root alone can read: the container's root, when it is mounted there,
// since the engine maps the owners of what it mounts.
func writeInto(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("file for an instance: %w", err)
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return fmt.Errorf("file for an instance: %w", err)
	}
	return nil
}

// removeFiles asks for absence of an instance's files.
func (m *Manager) removeFiles(uuid string) error {
	if err := os.RemoveAll(m.instanceDir(uuid)); err != nil {
		return fmt.Errorf("files of instance %s: %w", uuid, err)
	}
	return nil
}

// removeStrayFiles removes the files of instances without a container, which a crash has left.
func (m *Manager) removeStrayFiles() error {
	entries, err := os.ReadDir(filepath.Join(m.opts.StateDir, "instances"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("files of instances: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if _, err := m.engine.Inspect(containerID(e.Name())); errors.Is(err, errdefs.ErrNotFound) {
			errs = append(errs, m.removeFiles(e.Name()))
		}
	}
	return errors.Join(errs...)
}

// configDrive is the content of a config drive (nova/virt/configdrive.py, nova/api/metadata/base.py), by
// path.
func configDrive(g guest, b *buildRequest, vifs neutron.NetworkInfo) (map[string][]byte, error) {
	meta := map[string]any{
		"uuid": g.uuid, "name": g.name, "hostname": g.hostname, "launch_index": g.launchIndex,
		"availability_zone": g.availabilityZone, "project_id": g.projectID, "devices": []any{}, "dedicated_cpus": []int{},
	}
	if len(g.metadata) > 0 {
		meta["meta"] = g.metadata
	}
	if g.keyName != "" && g.keyData != "" {
		meta["public_keys"] = map[string]string{g.keyName: g.keyData}
		meta["keys"] = []map[string]string{{"name": g.keyName, "type": "ssh", "data": g.keyData}}
	}
	if b.adminPassword != "" {
		meta["admin_pass"] = b.adminPassword
	}
	tree := map[string][]byte{}
	for name, v := range map[string]any{
		"meta_data.json": meta, "network_data.json": networkData(vifs), "vendor_data.json": struct{}{}, "vendor_data2.json": struct{}{},
	} {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("config drive: %s: %w", name, err)
		}
		tree["openstack/latest/"+name] = text
	}
	if g.userData != "" {
		text, err := base64.StdEncoding.DecodeString(g.userData)
		if err != nil {
			return nil, &Exception{Class: "InvalidInput", Code: 400, Kind: errdefs.ErrInvalid,
				Message: "Invalid input received: user data is not base64"}
		}
		tree["openstack/latest/user_data"] = text
	}
	return tree, nil
}

// networkData is network_data.json (nova/virt/netutils.py, get_network_metadata). The addresses are
// set already when the container's first process runs, so nothing in it has to act on this.
func networkData(vifs neutron.NetworkInfo) map[string]any {
	links, networks, services := []any{}, []any{}, []any{}
	for _, v := range vifs {
		if v.Network == nil {
			continue
		}
		link := map[string]any{"id": string(v.DevName), "vif_id": v.ID, "type": string(v.Type),
			"mtu": v.MTU(), "ethernet_mac_address": v.Address}
		links = append(links, link)
		for _, s := range v.Network.Subnets {
			for _, ip := range s.IPs {
				n := map[string]any{"id": fmt.Sprintf("network%d", len(networks)), "type": fmt.Sprintf("ipv%d", s.Version),
					"link": string(v.DevName), "ip_address": string(ip.Address), "netmask": netmask(string(s.CIDR)),
					"network_id": v.Network.ID}
				routes := []any{}
				if s.Gateway != nil && s.Gateway.Address != "" {
					everywhere := "0.0.0.0"
					if s.Version == 6 {
						everywhere = "::"
					}
					routes = append(routes, map[string]any{"network": everywhere, "netmask": everywhere, "gateway": string(s.Gateway.Address)})
				}
				n["routes"] = routes
				networks = append(networks, n)
				break // of several addresses in a subnet, Nova tells the first
			}
			for _, d := range s.DNS {
				services = append(services, map[string]any{"type": "dns", "address": string(d.Address)})
			}
		}
	}
	return map[string]any{"links": links, "networks": networks, "services": services}
}

// netmask is a prefix's mask in the notation of its addresses.
func netmask(cidr string) string {
	_, network, err := net.ParseCIDR(cidr)
	if err != nil {
		return ""
	}
	return net.IP(network.Mask).String()
}
