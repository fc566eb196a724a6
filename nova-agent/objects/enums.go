package objects

// enums lists what Nova accepts in a field, by the name of its field type
// (nova/objects/fields.py of Nova 26). An unknown value makes Nova refuse the
// whole message, so a changed field is checked before it is sent; one that came
// from Nova is passed on as it is, since later releases add values.
var enums = map[string][]string{
	"Architecture": {
		"alpha", "armv6", "armv7l", "armv7b", "aarch64", "cris", "i686", "ia64", "lm32", "m68k",
		"microblaze", "microblazeel", "mips", "mipsel", "mips64", "mips64el", "openrisc", "parisc",
		"parisc64", "ppc", "ppcle", "ppc64", "ppc64le", "ppcemb", "s390", "s390x", "sh4", "sh4eb",
		"sparc", "sparc64", "unicore32", "x86_64", "xtensa", "xtensaeb",
	},
	"BlockDeviceDestinationType": {
		"local", "volume",
	},
	"BlockDeviceEncryptionFormatType": {
		"plain", "luks", "luksv2",
	},
	"BlockDeviceSourceType": {
		"blank", "image", "snapshot", "volume",
	},
	"BlockDeviceType": {
		"cdrom", "disk", "floppy", "fs", "lun",
	},
	"CPUAllocationPolicy": {
		"dedicated", "shared", "mixed",
	},
	"CPUEmulatorThreadsPolicy": {
		"share", "isolate",
	},
	"CPUFeaturePolicy": {
		"force", "require", "optional", "disable", "forbid",
	},
	"CPUMatch": {
		"minimum", "exact", "strict",
	},
	"CPUMode": {
		"custom", "host-model", "host-passthrough",
	},
	"CPUThreadAllocationPolicy": {
		"prefer", "isolate", "require",
	},
	"ConfigDrivePolicy": {
		"optional", "mandatory",
	},
	"DiskBus": {
		"fdc", "ide", "sata", "scsi", "usb", "virtio", "xen", "lxc", "uml",
	},
	"ExternalEventName": {
		"network-changed", "network-vif-plugged", "network-vif-unplugged", "network-vif-deleted",
		"volume-extended", "power-update", "accelerator-request-bound", "volume-reimaged",
	},
	"ExternalEventStatus": {
		"failed", "completed", "in-progress",
	},
	"FirmwareType": {
		"uefi", "bios",
	},
	"HVType": {
		"baremetal", "bhyve", "docker", "fake", "hyperv", "ironic", "kqemu", "kvm", "lxc", "lxd",
		"openvz", "parallels", "phyp", "qemu", "test", "uml", "vbox", "vz", "vmware", "xen", "zvm",
		"prsm",
	},
	"HypervisorDriver": {
		"libvirt", "xenapi", "vmwareapi", "ironic", "hyperv",
	},
	"ImageSignatureHashType": {
		"SHA-224", "SHA-256", "SHA-384", "SHA-512",
	},
	"ImageSignatureKeyType": {
		"DSA", "ECC_SECP384R1", "ECC_SECP521R1", "ECC_SECT409K1", "ECC_SECT409R1", "ECC_SECT571K1",
		"ECC_SECT571R1", "RSA-PSS",
	},
	"InputBus": {
		"usb", "virtio",
	},
	"InstancePowerState": {
		"pending", "running", "_unused", "paused", "shutdown", "_unused", "crashed", "suspended",
	},
	"MigrationType": {
		"migration", "resize", "live-migration", "evacuation",
	},
	"OSType": {
		"linux", "windows",
	},
	"PCINUMAAffinityPolicy": {
		"required", "legacy", "preferred", "socket",
	},
	"PciDeviceStatus": {
		"available", "claimed", "allocated", "removed", "deleted", "unavailable", "unclaimable",
	},
	"PciDeviceType": {
		"type-PCI", "type-PF", "type-VF", "vdpa",
	},
	"PointerModelType": {
		"usbtablet",
	},
	"RNGModel": {
		"virtio",
	},
	"SCSIModel": {
		"buslogic", "ibmvscsi", "lsilogic", "lsisas1068", "lsisas1078", "virtio-scsi", "vmpvscsi",
	},
	"SecureBoot": {
		"required", "disabled", "optional",
	},
	"TPMModel": {
		"tpm-tis", "tpm-crb",
	},
	"TPMVersion": {
		"1.2", "2.0",
	},
	"VIFModel": {
		"virtio", "ne2k_pci", "pcnet", "rtl8139", "e1000", "e1000e", "netfront", "spapr-vlan", "lan9118",
		"sriov", "vmxnet", "vmxnet3",
	},
	"VIOMMUModel": {
		"intel", "smmuv3", "virtio", "auto",
	},
	"VMMode": {
		"hvm", "xen", "uml", "exe",
	},
	"VideoModel": {
		"cirrus", "qxl", "vga", "vmvga", "xen", "virtio", "gop", "none", "bochs",
	},
	"WatchdogAction": {
		"none", "pause", "poweroff", "reset", "disabled",
	},
}
