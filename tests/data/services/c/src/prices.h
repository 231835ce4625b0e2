/* Price in cents of a number of pieces, with the discount for many; -1 for what cannot be sold. */
long price(long pieces, long cents);
