package main

import "unicode/utf8"

// appendRecord appends one object of Docker's json-file format and a newline.
func appendRecord(b, text []byte, stream string, now int64) []byte {
	b = append(b, `{"log":"`...)
	b = appendEscaped(b, text)
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	b = append(b, `","time":"`...)
	b = appendTime(b, now)
	return append(b, '"', '}', '\n')
}

const hex = "0123456789abcdef"

// appendEscaped writes text as the inside of a JSON string, the way Docker does
// (daemon/logger/jsonfilelog/jsonlog): bad UTF-8 becomes U+FFFD.
func appendEscaped(b, text []byte) []byte {
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0x7f {
				i++
				continue
			}
			b = append(b, text[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, text[start:i]...), `\ufffd`...)
			start = i + size
		case r == 0x2028 || r == 0x2029:
			b = append(append(b, text[start:i]...), `\u202`...)
			b = append(b, hex[r&15])
			start = i + size
		}
		i += size
	}
	return append(b, text[start:]...)
}

// appendTime writes nanoseconds since 1970 as RFC 3339 in UTC.
func appendTime(b []byte, now int64) []byte {
	secs, nanos := now/1e9, now%1e9
	days, rest := secs/86400, secs%86400
	// The proleptic Gregorian calendar by 400-year eras that start on the first of March
	// (H. Hinnant, chrono-compatible low-level date algorithms, civil_from_days).
	z := days + 719468
	era := z / 146097
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day := doy - (153*mp+2)/5 + 1
	month := mp + 3
	if month > 12 {
		month -= 12
	}
	year := yoe + era*400
	if month <= 2 {
		year++
	}
	b = appendPadded(b, year, 4)
	b = appendPadded(append(b, '-'), month, 2)
	b = appendPadded(append(b, '-'), day, 2)
	b = appendPadded(append(b, 'T'), rest/3600, 2)
	b = appendPadded(append(b, ':'), rest/60%60, 2)
	b = appendPadded(append(b, ':'), rest%60, 2)
	b = appendPadded(append(b, '.'), nanos, 9)
	return append(b, 'Z')
}

func appendPadded(b []byte, v int64, width int) []byte {
	for div := pow10(width - 1); div > 0; div /= 10 {
		b = append(b, byte('0'+v/div%10))
	}
	return b
}

func pow10(n int) int64 {
	v := int64(1)
	for range n {
		v *= 10
	}
	return v
}
