package objects

// ImageMetaProps holds the image properties that Nova knows. Others are found only in
// the raw image dict and in system_metadata.
// Nova: ImageMetaProps 1.34.
type ImageMetaProps struct {
	Header

	HWArchitecture               Field[string]               `nova:"hw_architecture,is=Architecture"`
	HWEmulationArchitecture      Field[string]               `nova:"hw_emulation_architecture,is=Architecture"`
	HWAutoDiskConfig             Field[string]               `nova:"hw_auto_disk_config"`
	HWBootMenu                   Field[bool]                 `nova:"hw_boot_menu"`
	HWCDROMBus                   Field[string]               `nova:"hw_cdrom_bus,is=DiskBus"`
	HWCPUCores                   Field[int64]                `nova:"hw_cpu_cores"`
	HWCPUSockets                 Field[int64]                `nova:"hw_cpu_sockets"`
	HWCPUMaxCores                Field[int64]                `nova:"hw_cpu_max_cores"`
	HWCPUMaxSockets              Field[int64]                `nova:"hw_cpu_max_sockets"`
	HWCPUMaxThreads              Field[int64]                `nova:"hw_cpu_max_threads"`
	HWCPUPolicy                  Field[string]               `nova:"hw_cpu_policy,is=CPUAllocationPolicy"`
	HWCPUThreadPolicy            Field[string]               `nova:"hw_cpu_thread_policy,is=CPUThreadAllocationPolicy"`
	HWCPURealtimeMask            Field[string]               `nova:"hw_cpu_realtime_mask"`
	HWCPUThreads                 Field[int64]                `nova:"hw_cpu_threads"`
	HWDeviceID                   Field[int64]                `nova:"hw_device_id"`
	HWDiskBus                    Field[string]               `nova:"hw_disk_bus,is=DiskBus"`
	HWDiskType                   Field[string]               `nova:"hw_disk_type"`
	HWFloppyBus                  Field[string]               `nova:"hw_floppy_bus,is=DiskBus"`
	HWFirmwareType               Field[string]               `nova:"hw_firmware_type,is=FirmwareType"`
	HWInputBus                   Field[string]               `nova:"hw_input_bus,is=InputBus"`
	HWIPXEBoot                   Field[bool]                 `nova:"hw_ipxe_boot"`
	HWLockedMemory               Field[bool]                 `nova:"hw_locked_memory"`
	HWMachineType                Field[string]               `nova:"hw_machine_type"`
	HWMemEncryption              Field[bool]                 `nova:"hw_mem_encryption"`
	HWMemPageSize                Field[string]               `nova:"hw_mem_page_size"`
	HWNUMANodes                  Field[int64]                `nova:"hw_numa_nodes"`
	HWNUMACPUs                   Field[[][]int64]            `nova:"hw_numa_cpus,set"`
	HWNUMAMem                    Field[[]int64]              `nova:"hw_numa_mem"`
	HWPCINUMAAffinityPolicy      Field[string]               `nova:"hw_pci_numa_affinity_policy,is=PCINUMAAffinityPolicy"`
	HWPointerModel               Field[string]               `nova:"hw_pointer_model,is=PointerModelType"`
	HWPMU                        Field[bool]                 `nova:"hw_pmu"`
	HWQEMUGuestAgent             Field[bool]                 `nova:"hw_qemu_guest_agent"`
	HWRescueBus                  Field[string]               `nova:"hw_rescue_bus,is=DiskBus"`
	HWRescueDevice               Field[string]               `nova:"hw_rescue_device,is=BlockDeviceType"`
	HWRNGModel                   Field[string]               `nova:"hw_rng_model,is=RNGModel"`
	HWTimeHPET                   Field[bool]                 `nova:"hw_time_hpet"`
	HWSerialPortCount            Field[int64]                `nova:"hw_serial_port_count"`
	HWSCSIModel                  Field[string]               `nova:"hw_scsi_model,is=SCSIModel"`
	HWVideoModel                 Field[string]               `nova:"hw_video_model,is=VideoModel"`
	HWVideoRAM                   Field[int64]                `nova:"hw_video_ram"`
	HWVIFModel                   Field[string]               `nova:"hw_vif_model,is=VIFModel"`
	HWVIOMMUModel                Field[string]               `nova:"hw_viommu_model,is=VIOMMUModel"`
	HWVMMode                     Field[string]               `nova:"hw_vm_mode,is=VMMode"`
	HWWatchdogAction             Field[string]               `nova:"hw_watchdog_action,is=WatchdogAction"`
	HWVIFMultiqueueEnabled       Field[bool]                 `nova:"hw_vif_multiqueue_enabled"`
	HWTPMModel                   Field[string]               `nova:"hw_tpm_model,is=TPMModel"`
	HWTPMVersion                 Field[string]               `nova:"hw_tpm_version,is=TPMVersion"`
	HWEphemeralEncryption        Field[bool]                 `nova:"hw_ephemeral_encryption"`
	HWEphemeralEncryptionFormat  Field[string]               `nova:"hw_ephemeral_encryption_format,is=BlockDeviceEncryptionFormatType"`
	ImgBittorrent                Field[bool]                 `nova:"img_bittorrent"`
	ImgBDMV2                     Field[bool]                 `nova:"img_bdm_v2"`
	ImgBlockDeviceMapping        Field[[]map[string]*string] `nova:"img_block_device_mapping"`
	ImgCacheInNova               Field[bool]                 `nova:"img_cache_in_nova"`
	ImgCompressionLevel          Field[int64]                `nova:"img_compression_level"`
	ImgHVRequestedVersion        Field[string]               `nova:"img_hv_requested_version"`
	ImgHVType                    Field[string]               `nova:"img_hv_type,is=HVType"`
	ImgConfigDrive               Field[string]               `nova:"img_config_drive,is=ConfigDrivePolicy"`
	ImgLinkedClone               Field[bool]                 `nova:"img_linked_clone"`
	ImgMappings                  Field[[]map[string]*string] `nova:"img_mappings"`
	ImgOwnerID                   Field[string]               `nova:"img_owner_id"`
	ImgRootDeviceName            Field[string]               `nova:"img_root_device_name"`
	ImgUseAgent                  Field[bool]                 `nova:"img_use_agent"`
	ImgVersion                   Field[int64]                `nova:"img_version"`
	ImgSignature                 Field[string]               `nova:"img_signature"`
	ImgSignatureHashMethod       Field[string]               `nova:"img_signature_hash_method,is=ImageSignatureHashType"`
	ImgSignatureCertificateUUID  Field[string]               `nova:"img_signature_certificate_uuid"`
	ImgSignatureKeyType          Field[string]               `nova:"img_signature_key_type,is=ImageSignatureKeyType"`
	ImgHideHypervisorID          Field[bool]                 `nova:"img_hide_hypervisor_id"`
	OSAdminUser                  Field[string]               `nova:"os_admin_user"`
	OSCommandLine                Field[string]               `nova:"os_command_line"`
	OSDistro                     Field[string]               `nova:"os_distro"`
	OSRequireQuiesce             Field[bool]                 `nova:"os_require_quiesce"`
	OSSecureBoot                 Field[string]               `nova:"os_secure_boot,is=SecureBoot"`
	OSSkipAgentInjectFilesAtBoot Field[bool]                 `nova:"os_skip_agent_inject_files_at_boot"`
	OSSkipAgentInjectSSH         Field[bool]                 `nova:"os_skip_agent_inject_ssh"`
	OSType                       Field[string]               `nova:"os_type,is=OSType"`
	TraitsRequired               Field[[]string]             `nova:"traits_required"`
}

// ObjectName implements Object.
func (*ImageMetaProps) ObjectName() string { return "ImageMetaProps" }

// ObjectVersion implements Object.
func (o *ImageMetaProps) ObjectVersion() string { return o.versionOr("1.34") }

// MarshalJSON implements json.Marshaler.
func (o *ImageMetaProps) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ImageMetaProps) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
