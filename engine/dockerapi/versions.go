package dockerapi

import (
	"reflect"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
)

// maxVersion and minVersion are the API's minor versions that are served.
const (
	maxVersion = 57
	minVersion = 24
)

func versionText(minor int) string { return "1." + strconv.Itoa(minor) }

// field is a field of a request or an answer that not all versions have.
type field struct {
	of   any    // a value of the struct that declares it
	name string // in JSON
	// since and until are the first and the last minor version with it, 0 for no such bound.
	since, until int
	// lacking is the first minor version that leaves it out when it is empty.
	lacking int
}

// fields are all that differ by version: what Docker's engine takes away or adds for clients of
// older versions. An answer loses what the client's version does not have, and so does a request:
// an engine of that version's time would not have known it. Handlers answer the fields of all versions.
// What is more than a field is in versions_create.go, or asks request.version where it happens.
var fields = []field{
	{of: container.Summary{}, name: "ImageManifestDescriptor", since: 48},
	{of: container.Summary{}, name: "Health", since: 52},
	{of: container.Summary{}.HostConfig, name: "Annotations", since: 46},
	{of: container.InspectResponse{}, name: "ImageManifestDescriptor", since: 48},
	{of: container.InspectResponse{}, name: "GraphDriver", until: 51},
	{of: container.InspectResponse{}, name: "Storage", since: 52},
	{of: inspectConfig{}, name: "OnBuild", lacking: 52},
	{of: inspectConfig{}, name: "MacAddress", until: 51},
	{of: inspectHostConfig{}, name: "KernelMemory", until: 41},
	{of: inspectHostConfig{}, name: "KernelMemoryTCP", since: 40, until: 41},
	{of: networkSettings{}, name: "Bridge", until: 51},
	{of: networkSettings{}, name: "HairpinMode", until: 51},
	{of: networkSettings{}, name: "LinkLocalIPv6Address", until: 51},
	{of: networkSettings{}, name: "LinkLocalIPv6PrefixLen", until: 51},
	{of: networkSettings{}, name: "SecondaryIPAddresses", until: 51},
	{of: networkSettings{}, name: "SecondaryIPv6Addresses", until: 51},
	{of: networkSettings{}, name: "EndpointID", until: 51},
	{of: networkSettings{}, name: "Gateway", until: 51},
	{of: networkSettings{}, name: "GlobalIPv6Address", until: 51},
	{of: networkSettings{}, name: "GlobalIPv6PrefixLen", until: 51},
	{of: networkSettings{}, name: "IPAddress", until: 51},
	{of: networkSettings{}, name: "IPPrefixLen", until: 51},
	{of: networkSettings{}, name: "IPv6Gateway", until: 51},
	{of: networkSettings{}, name: "MacAddress", until: 51},
	{of: network.EndpointSettings{}, name: "DNSNames", since: 44},
	{of: network.EndpointSettings{}, name: "GwPriority", since: 48},
	{of: container.HostConfig{}, name: "Annotations", since: 43},
	{of: container.HostConfig{}, name: "Umask", since: 56},
	{of: createRequest{}, name: "MacAddress", until: 51},
	{of: container.HealthConfig{}, name: "StartInterval", since: 44},
	{of: container.WaitResponse{}, name: "Error", since: 34},
	{of: container.StatsResponse{}, name: "os_type", since: 52},
	{of: container.ExecCreateRequest{}, name: "ConsoleSize", since: 42},

	{of: imageSummary{}, name: "VirtualSize", until: 43},
	{of: image.Summary{}, name: "Descriptor", since: 48},
	{of: image.Summary{}, name: "Manifests", since: 47},
	{of: imageResponse{}, name: "VirtualSize", until: 43},
	{of: imageResponse{}, name: "Container", until: 44},
	{of: imageResponse{}, name: "ContainerConfig", until: 44},
	{of: imageResponse{}, name: "Parent", lacking: 52},
	{of: imageResponse{}, name: "DockerVersion", lacking: 52},
	{of: imageResponse{}, name: "Comment", lacking: 52},
	{of: imageResponse{}, name: "Author", lacking: 52},
	{of: image.InspectResponse{}, name: "GraphDriver", until: 51},
	{of: image.InspectResponse{}, name: "Descriptor", since: 48},
	{of: image.InspectResponse{}, name: "Manifests", since: 48},
	{of: image.InspectResponse{}, name: "Identity", since: 53},
	{of: imageConfig{}, name: "Hostname", until: 49},
	{of: imageConfig{}, name: "Domainname", until: 49},
	{of: imageConfig{}, name: "AttachStdin", until: 49},
	{of: imageConfig{}, name: "AttachStdout", until: 49},
	{of: imageConfig{}, name: "AttachStderr", until: 49},
	{of: imageConfig{}, name: "Tty", until: 49},
	{of: imageConfig{}, name: "OpenStdin", until: 49},
	{of: imageConfig{}, name: "StdinOnce", until: 49},
	{of: imageConfig{}, name: "Image", until: 49},
	{of: imageConfig{}, name: "User", lacking: 52},
	{of: imageConfig{}, name: "Env", lacking: 52},
	{of: imageConfig{}, name: "Entrypoint", lacking: 52},
	{of: imageConfig{}, name: "Cmd", lacking: 52},
	{of: imageConfig{}, name: "Volumes", lacking: 52},
	{of: imageConfig{}, name: "WorkingDir", lacking: 52},
	{of: imageConfig{}, name: "Labels", lacking: 52},
	{of: imageConfig{}, name: "OnBuild", lacking: 52},

	{of: network.Network{}, name: "EnableIPv4", since: 48},
	{of: network.Inspect{}, name: "Status", since: 52},
	{of: networkSummary{}, name: "Containers", until: 27},

	{of: eventMessage{}, name: "status", until: 51},
	{of: eventMessage{}, name: "id", until: 51},
	{of: eventMessage{}, name: "from", until: 51},
	{of: system.RuntimeWithStatus{}, name: "status", since: 44},
	{of: system.Info{}, name: "Containerd", since: 46},
	{of: system.Info{}, name: "FirewallBackend", since: 49},
	{of: system.Info{}, name: "DiscoveredDevices", since: 50},
	{of: system.Info{}, name: "NRI", since: 53},
	{of: system.Info{}, name: "CDISpecDirs", since: 44},
	{of: infoResponse{}, name: "BridgeNfIptables", until: 49},
	{of: infoResponse{}, name: "BridgeNfIp6tables", until: 49},
	{of: infoResponse{}, name: "KernelMemory", until: 41},
	{of: infoResponse{}, name: "KernelMemoryTCP", since: 40, until: 41},
	{of: registryConfig{}, name: "AllowNondistributableArtifactsCIDRs", until: 48},
	{of: registryConfig{}, name: "AllowNondistributableArtifactsHostnames", until: 48},
	{of: expectedCommit{}, name: "Expected", until: 48},
	{of: diskUsage{}, name: "BuilderSize", since: 31, until: 41},
	{of: diskUsage{}, name: "LayersSize", until: 52, lacking: 52},
	{of: diskUsage{}, name: "Images", until: 52, lacking: 52},
	{of: diskUsage{}, name: "Containers", until: 52, lacking: 52},
	{of: diskUsage{}, name: "Volumes", until: 52, lacking: 52},
	{of: diskUsage{}, name: "BuildCache", until: 52, lacking: 52},
	{of: system.DiskUsage{}, name: "ImageUsage", since: 52},
	{of: system.DiskUsage{}, name: "ContainerUsage", since: 52},
	{of: system.DiskUsage{}, name: "VolumeUsage", since: 52},
	{of: system.DiskUsage{}, name: "BuildCacheUsage", since: 52},
}

// in tells whether a version has the field at all.
func (f *field) in(version int) bool {
	return version >= f.since && (f.until == 0 || version <= f.until)
}

type fieldKey struct {
	of   reflect.Type
	name string
}

// fieldIndex is fields by what they name.
var fieldIndex = func() map[fieldKey]*field {
	index := map[fieldKey]*field{}
	for i := range fields {
		index[fieldKey{reflect.TypeOf(fields[i].of), fields[i].name}] = &fields[i]
	}
	return index
}()

// inVersion tells whether the struct type t has the field of that name in a version.
func inVersion(t reflect.Type, name string, version int) bool {
	f := fieldIndex[fieldKey{t, name}]
	return f == nil || f.in(version)
}
