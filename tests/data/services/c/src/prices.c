#include "prices.h"

long price(long pieces, long cents) {
    if (pieces < 1 || cents < 0) {
        return -1;
    }
    long full = pieces * cents;
    return pieces >= 10 ? full - full / 10 : full;
}
