package local

func owner_(string) {}
