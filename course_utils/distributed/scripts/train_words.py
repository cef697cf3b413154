"""Train a small network that reads sequences of words, on all GPUs there are."""

import torch
from torch import nn

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


class WordNet(nn.Module):
    """Scores for sequences of words: each word counts, and so does its place."""

    def __init__(self, words=50, longest=16, width=32):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Embedding(longest, width)
        self.hidden = nn.Linear(width, 64)
        self.scores = nn.Linear(64, 2)

    def forward(self, words):
        places = torch.arange(words.shape[1], device=device)
        x = self.words(words) + self.places(places)
        return self.scores(torch.relu(self.hidden(x)).mean(1))


def main():
    torch.manual_seed(0)
    words = torch.randint(50, (512, 16)).to(device)
    labels = (words[:, 0] < 25).long()  # the first word decides
    net = nn.DataParallel(WordNet().to(device))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for step in range(30):
        loss = nn.functional.cross_entropy(net(words), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.2f}")


if __name__ == "__main__":
    main()
