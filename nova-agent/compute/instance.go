package compute

import (
	"strings"

	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
)

// guestOf reads what a container is made of out of an Instance. Its metadata,
// system_metadata and flavor must be loaded.
func guestOf(i *objects.Instance) guest {
	g := guest{
		uuid:             i.UUID.Value(),
		name:             i.DisplayName.Or(""),
		hostname:         i.Hostname.Or(""),
		projectID:        i.ProjectID.Or(""),
		userID:           i.UserID.Or(""),
		availabilityZone: i.AvailabilityZone.Or(""),
		launchIndex:      int(i.LaunchIndex.Or(0)),
		userData:         i.UserData.Or(""),
		keyName:          i.KeyName.Or(""),
		keyData:          i.KeyData.Or(""),
		imageRef:         i.ImageRef.Or(""),
		metadata:         i.Metadata.Or(nil),
		properties:       map[string]string{},
		flavor:           flavorOf(i.Flavor.Value()),
	}
	for key, value := range i.SystemMetadata.Or(nil) {
		if name, ok := strings.CutPrefix(key, "image_"); ok && value != nil {
			g.properties[name] = *value
		}
	}
	g.configDrive, _ = truth("config_drive", i.ConfigDrive.Or(""))
	if g.properties["img_config_drive"] == "mandatory" {
		g.configDrive = true
	}
	return g
}

func flavorOf(f *objects.Flavor) flavor {
	if f == nil {
		return flavor{}
	}
	return flavor{
		name:        f.Name.Or(""),
		vcpus:       int(f.VCPUs.Or(0)),
		memoryMB:    int(f.MemoryMB.Or(0)),
		rootGB:      int(f.RootGB.Or(0)),
		ephemeralGB: int(f.EphemeralGB.Or(0)),
		swapMB:      int(f.Swap.Or(0)),
		extraSpecs:  f.ExtraSpecs.Or(nil),
	}
}

// trackedOf is an instance for the resource tracker. An instance without image has a
// volume for its root disk.
func trackedOf(i *objects.Instance) tracked {
	return tracked{
		uuid:      i.UUID.Value(),
		vmState:   i.VMState.Or(""),
		taskState: i.TaskState.Or(""),
		osType:    i.OSType.Or(""),
		projectID: i.ProjectID.Or(""),
		usage:     flavorOf(i.Flavor.Value()).usage(i.ImageRef.Or("") == ""),
	}
}

// networkInstance is what Neutron has to know of an instance.
func networkInstance(i *objects.Instance) neutron.Instance {
	return neutron.Instance{
		UUID:             i.UUID.Value(),
		ProjectID:        i.ProjectID.Or(""),
		Hostname:         i.Hostname.Or(""),
		AvailabilityZone: i.AvailabilityZone.Or(""),
	}
}

// cachedNetwork is the network info that came with an instance.
func cachedNetwork(i *objects.Instance) (neutron.NetworkInfo, error) {
	cache := i.InfoCache.Value()
	if cache == nil {
		return neutron.NetworkInfo{}, nil
	}
	return neutron.ParseNetworkInfo(string(cache.NetworkInfo.Or("")))
}

// systemMetadata is a key of system_metadata, "" if it is not there.
func systemMetadata(i *objects.Instance, key string) string {
	if v := i.SystemMetadata.Or(nil)[key]; v != nil {
		return *v
	}
	return ""
}

// setTask sets task_state; taskNone is null.
func setTask(i *objects.Instance, task string) {
	if task == taskNone {
		i.TaskState.SetNull()
		return
	}
	i.TaskState.Set(task)
}

// unclaim takes the instance off this host, for a save to follow.
func unclaim(i *objects.Instance) {
	i.Host.SetNull()
	i.Node.SetNull()
	i.LaunchedOn.SetNull()
	i.AvailabilityZone.SetNull()
}
