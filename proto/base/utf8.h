/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include "proto/base/buf.h"

/* Length 1 to 4 of the character at the start of s, or 0 when the bytes are not one. */
unsigned utf8_char_len(struct span s);
bool utf8_valid(struct span s);
