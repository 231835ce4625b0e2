/* What a release of the shop says of itself, and what it answers to the health check. */
#define VERSION "1"
#define HEALTH 200
