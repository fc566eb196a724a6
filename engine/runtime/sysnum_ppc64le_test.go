package runtime_test

const sysRenameat2 = 357
