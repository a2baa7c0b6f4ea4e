"""Words that the built-in rules know, in English. A change here needs another `text.VERSION`.

A list gives, by the value that a marker gets, the ways in which texts say it. A
phrase is a few words with a space between; plurals are understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Lexicon = Mapping[str, tuple[str, ...]]


def _list(text: str) -> Lexicon:
    """One value a line: `value = phrase, phrase`; a value without phrases is its own."""
    found = {}
    for line in text.strip().splitlines():
        value, _, phrases = line.partition("=")
        name = value.strip()
        said = [phrase.strip() for phrase in phrases.split(",") if phrase.strip()]
        found[name] = tuple(dict.fromkeys([name.replace("-", " "), *said]))
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLAIMS: Final = _list(
    """
    organic = certified organic, 100% organic, orgnc, usda organic
    gluten-free = free of gluten, no gluten, without gluten, glutenfree
    sugar-free = no sugar, without sugar, sugarfree, zero sugar, free of sugar, 0 sugar
    no-added-sugar = no sugar added, without added sugar, unsweetened
    reduced-sugar = less sugar, low sugar, lower sugar
    fat-free = no fat, non fat, nonfat, zero fat, without fat, fatfree, 0% fat
    low-fat = reduced fat, less fat, lowfat, lower fat, light fat
    low-sodium = reduced sodium, less sodium, low salt, less salt, reduced salt, lower sodium
    no-salt = salt free, no salt added, unsalted, sodium free
    low-calorie = low calories, reduced calorie, less calories, lite, light calorie
    low-carb = reduced carb, low carbohydrate, keto
    diet
    lactose-free = no lactose, without lactose
    dairy-free = non dairy, nondairy, no dairy, without dairy, milk free
    nut-free = no nuts, without nuts, peanut free
    vegan = plant based, 100% vegan
    vegetarian = meatless, meat free, veggie
    fair-trade = fairtrade, fair traded
    non-gmo = gmo free, no gmo, without gmo, non gm
    caffeine-free = decaf, decaffeinated, no caffeine, without caffeine, decaffinated
    alcohol-free = non alcoholic, nonalcoholic, no alcohol, without alcohol, alcohol 0
    kosher
    halal
    whole-grain = wholegrain, whole wheat, wholewheat, wholemeal, multigrain, multi grain
    high-protein = high in protein, extra protein, protein rich
    high-fibre = high fiber, rich in fibre, extra fibre, extra fiber
    natural = all natural, 100% natural
    free-range = cage free, pasture raised, freerange
    grass-fed = pasture fed
    wild-caught = wild catch, line caught
    antibiotic-free = no antibiotics, raised without antibiotics, without antibiotics
    biodegradable = compostable
    recycled = recyclable, 100% recycled
    cruelty-free = not tested on animals
    fragrance-free = unscented, no fragrance, without fragrance, perfume free, scent free
    hypoallergenic = hypo allergenic, for sensitive skin, sensitive skin
    paraben-free = no parabens, without parabens
    sulfate-free = sulphate free, no sulfates
    bpa-free = no bpa
    locally-grown = local grown, home grown
    """
)

FORMS: Final = _list(
    """
    crushed
    cubed = cube, diced
    sliced = slice, slcd, presliced, prslc
    shredded = grated
    ground = minced, grnd
    whole-bean = whole beans
    chopped
    frozen = frzn, frz, deep frozen
    refrigerated = chilled, refrig, refrgratd
    dried = dehydrated, freeze dried
    canned = cnd, tinned
    smoked
    roasted
    instant
    powder = powdered
    liquid
    spray = aerosol
    gel
    concentrate = concentrated
    boneless
    bone-in
    marinated
    breaded = brd
    pre-cooked = precooked, fully cooked, ready to eat
    ready-to-drink = rtd
    ready-to-serve = rts
    bulk
    multi-pack = multipack, variety pack, multi packs
    single-serve = single serving
    refill
    travel-size = trial size
    """
)

#: What is a scent in a text that speaks of smelling, and a flavour in any other.
AROMAS: Final = _list(
    """
    almond
    apple
    apricot
    banana
    barbecue = bbq, barbeque
    berry = mixed berry, wild berry, berries
    blackberry
    blueberry
    butter = buttery
    buttermilk
    butterscotch
    caramel = dulce de leche
    cheddar
    cherry
    chilli = chili, chile, hot chili
    chocolate = choc, cocoa, milk chocolate, dark chocolate, chocolatey
    cinnamon
    citrus
    coconut
    coffee = espresso, mocha, cappuccino
    cranberry
    cucumber
    garlic
    ginger
    grape
    grapefruit
    green-tea = matcha
    hazelnut
    herb = herbs, herbal
    honey
    jalapeno
    lemon
    lime = key lime
    mango
    maple
    melon = honeydew
    mint = peppermint, spearmint, wintergreen
    onion
    orange = mandarin, tangerine
    peach
    peanut-butter
    pear
    pineapple
    plum
    pomegranate
    pumpkin = pumpkin spice
    ranch
    raspberry
    salt-and-vinegar = salt vinegar
    sour-cream = sour cream and onion
    strawberry
    teriyaki
    tomato
    vanilla = french vanilla
    watermelon
    """
)

SCENTS: Final = _list(
    """
    eucalyptus
    fresh-linen = linen, clean linen, clean cotton
    gardenia
    jasmine
    lavender
    lilac
    musk
    ocean = ocean breeze, sea breeze, fresh waters
    patchouli
    pine = pine forest
    rose = roses, rose petal
    sandalwood
    tea-tree = tea tree oil
    """
)

#: A text with one of these speaks of how something smells.
SMELLING: Final = _words(
    "scent scented fragrance fragranced aroma perfume cologne candle candles soap soaps shampoo "
    "conditioner detergent softener lotion lotions deodorant deodorants freshener fresheners "
    "cleaner cleaners cleanser bath shower bodywash laundry potpourri incense moisturizer "
    "antiperspirant dishwashing toilet"
)

#: Before a word they say that it is not so.
NEGATIONS: Final = frozenset(("non", "not", "no", "without"))

#: Say nothing of what a thing is.
STOP: Final = _words(
    "a all also an and any are as at be been both but by can could did do does each ea every for "
    "from get had has have he her here him his how i if in inc incl into is it its just let ltd me "
    "misc miscellaneous more most my new no non not of off on one only or other others our out "
    "over own per please s see she so some than that the their them then there these they this "
    "those to too two under up us use used via was we were what when where which who why will "
    "with without would you your etc co llc no vs x de la le el un une und der die das für mit "
    "item items product products assorted general type w o"
)
