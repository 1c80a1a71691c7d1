package faas

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
)

// quantityForm is Kubernetes': a decimal number, then a power of 1000 or of 1024, or an exponent.
var quantityForm = regexp.MustCompile(`^(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?$`)

var quantityUnits = map[string]*big.Rat{"": big.NewRat(1, 1)}

func init() {
	thousand, binary := big.NewRat(1, 1), big.NewRat(1, 1)
	for i, unit := range []string{"k", "M", "G", "T", "P", "E"} {
		thousand = new(big.Rat).Mul(thousand, big.NewRat(1000, 1))
		binary = new(big.Rat).Mul(binary, big.NewRat(1024, 1))
		quantityUnits[unit], quantityUnits["KMGTPE"[i:i+1]+"i"] = thousand, binary
	}
	for i, unit := range []string{"m", "u", "n"} {
		quantityUnits[unit] = big.NewRat(1, int64(math.Pow(1000, float64(i+1))))
	}
}

// ParseQuantity reads an amount in Kubernetes notation, such as 128Mi, 0.5 or
// 100m, and returns it in the unit of which there are so many in one, rounded
// up: ParseQuantity("100m", 1000) is 100. It is never negative.
func ParseQuantity(text string, inOne int64) (int64, error) {
	part := quantityForm.FindStringSubmatch(text)
	if part == nil {
		return 0, fmt.Errorf("quantity %q: want a number, or one with a unit, such as 128Mi, 1G, 500m or 0.5", text)
	}
	number := part[1]
	if part[3] != "" {
		number += "e" + part[3]
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("quantity %q: want a number", text)
	}
	value.Mul(value, quantityUnits[part[2]]).Mul(value, big.NewRat(inOne, 1))
	whole, rest := new(big.Int).QuoRem(value.Num(), value.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	if !whole.IsInt64() {
		return 0, fmt.Errorf("quantity %q is too large", text)
	}
	return whole.Int64(), nil
}
