"""Short ways to write a work down, and the names of venues in full."""

from infer.references.citation import Citation, EntryType

AISTATS = "International Conference on Artificial Intelligence and Statistics"
COLT = "Conference on Learning Theory"
ICLR = "International Conference on Learning Representations"
ICML = "International Conference on Machine Learning"
NEURIPS = "Advances in Neural Information Processing Systems"
UAI = "Conference on Uncertainty in Artificial Intelligence"
AAAI = "AAAI Conference on Artificial Intelligence"

ANNALS = "The Annals of Statistics"
BERNOULLI = "Bernoulli"
JASA = "Journal of the American Statistical Association"
JMLR = "Journal of Machine Learning Research"
JRSSB = "Journal of the Royal Statistical Society: Series B"
MACHINE_LEARNING = "Machine Learning"
SIIMS = "SIAM Journal on Imaging Sciences"
STATISTICS_AND_COMPUTING = "Statistics and Computing"


def article(
    authors: str, title: str, journal: str, year: int, volume: str, number: str = ""
) -> Citation:
    """An article in a journal."""
    return Citation(authors, title, journal, year, EntryType.ARTICLE, volume, number)


def proceedings(authors: str, title: str, conference: str, year: int) -> Citation:
    """A paper of a conference."""
    return Citation(authors, title, conference, year, EntryType.PROCEEDINGS)


def preprint(authors: str, title: str, arxiv: str, year: int) -> Citation:
    """A paper on arXiv, by its number there."""
    return Citation(authors, title, f"arXiv:{arxiv}", year, EntryType.MISC)
