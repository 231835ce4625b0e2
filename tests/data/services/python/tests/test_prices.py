import unittest

from shop.prices import price


class Prices(unittest.TestCase):
    def test_three_pieces(self):
        self.assertEqual(price(3, 250), 750)

    def test_ten_pieces_have_a_discount(self):
        self.assertEqual(price(10, 250), 2250)

    def test_nothing_cannot_be_sold(self):
        with self.assertRaises(ValueError):
            price(0, 250)
