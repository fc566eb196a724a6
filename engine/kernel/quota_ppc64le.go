package kernel

const iocSizeBits13 = true
