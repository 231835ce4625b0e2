#include <stdio.h>

#include "../src/prices.h"

static int failures;

static void expect(const char *what, long wanted, long got) {
    printf("%s %s\n", wanted == got ? "ok  " : "FAIL", what);
    failures += wanted != got;
}

int main(void) {
    expect("three pieces", 750, price(3, 250));
    expect("ten pieces have a discount", 2250, price(10, 250));
    expect("nothing cannot be sold", -1, price(0, 250));
    return failures ? 1 : 0;
}
